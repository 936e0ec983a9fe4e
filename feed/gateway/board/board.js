// The board: a row a symbol, painted at most once a frame and only where something changed.
import { Stream } from "/board/stream.js";

const ROWS_MAX = 400, STALE_MIN_MS = 2000, STALE_GAPS = 5, FLASH_MIN_MS = 340, DECIMALS_MAX = 12;
const element = (id) => document.getElementById(id);
const rows = new Map(), dirty = new Set();
let filter = new URLSearchParams(location.search).get("symbol") ?? "";
let connection = "connecting", reconnects = 0, lostAt = null;

const COLUMNS = ["name", "last", "size", "bid-size", "bid", "ask", "ask-size", "spread", "trades", "age", "state"];

class Row {
  constructor(symbol) {
    this.symbol = symbol; this.values = {}; this.shown = {}; this.decimals = 0; this.trades = 0;
    this.changedAt = performance.now(); this.usualMs = 0; this.flashedAt = 0; this.direction = "";
    this.staleOf = new Map(); this.sources = new Map();
    this.line = document.createElement("tr"); this.line.dataset.symbol = symbol; this.cells = {};
    for (const column of COLUMNS) {
      const cell = document.createElement("td"); cell.className = column;
      this.cells[column] = cell.appendChild(document.createTextNode(""));
      this.line.appendChild(cell);
    }
    this.set("name", symbol);
    this.line.hidden = !matches(symbol);
  }
  set(column, text) { this.values[column] = text; dirty.add(this); }
  /** Prices of one symbol have as many decimals as the finest seen, so that digits stay in their places. */
  price(text) {
    if (text === null) return "–";
    const point = text.indexOf("."), found = point < 0 ? 0 : text.length - point - 1;
    if (found > this.decimals && found <= DECIMALS_MAX) this.decimals = found;
    return point < 0 && this.decimals ? text + "." + "0".repeat(this.decimals) : text + "0".repeat(Math.max(0, this.decimals - found));
  }
  touched(now) {
    const gap = now - this.changedAt;
    this.usualMs = this.usualMs ? this.usualMs * 0.9 + gap * 0.1 : gap;
    this.changedAt = now;
  }
  get stale() {
    for (const reason of this.staleOf.values()) if (reason) return reason;
    for (const source of this.sources.values()) { const reason = stream.sourceStates.get(source); if (reason) return reason; }
    return "";
  }
}

function row(symbol) {
  let found = rows.get(symbol);
  if (!found) {
    rows.set(symbol, found = new Row(symbol));
    const after = [...element("rows").children].find((line) => line.dataset.symbol > symbol);
    element("rows").insertBefore(found.line, after ?? null);
    element("empty").hidden = true;
    element("symbols").textContent = rows.size;
    limit();
  }
  return found;
}

function matches(symbol) { return symbol.toLowerCase().includes(filter.toLowerCase()); }

function limit() {
  let shown = 0;
  for (const found of rows.values()) { const show = matches(found.symbol) && shown < ROWS_MAX; found.line.hidden = !show; shown += show; }
}

/** Two canonical decimals, of any sign, as integers of the same unit; and how many decimals that has. */
function whole(one, other) {
  const decimals = Math.max(...[one, other].map((text) => (text.split(".")[1] ?? "").length));
  const scaled = (text) => { const [head, tail = ""] = text.split("."); return BigInt(head + tail.padEnd(decimals, "0")); };
  return [scaled(one), scaled(other), decimals];
}

/** The difference of two prices, exactly. */
function spread(bid, ask) {
  const [low, high, decimals] = whole(bid, ask);
  const difference = high - low, sign = difference < 0n ? "-" : "";
  const digits = (difference < 0n ? -difference : difference).toString().padStart(decimals + 1, "0");
  return sign + (decimals ? digits.slice(0, -decimals) + "." + digits.slice(-decimals) : digits);
}

function trade(found, trades, live) {
  const last = trades.at(-1);
  if (!last) return;
  const before = found.lastPrice;
  if (before !== undefined && before !== last.price) {
    const [was, is] = whole(before, last.price), direction = is > was ? "up" : "down";
    found.direction = direction; found.flash = live ? direction : "";
  }
  found.lastPrice = last.price;
  found.set("last", found.price(last.price)); found.set("size", last.size);
  if (live) found.set("trades", String(found.trades += trades.length));
}

function quote(found, data) {
  found.set("bid", found.price(data.bid_price)); found.set("ask", found.price(data.ask_price));
  found.set("bid-size", data.bid_size ?? "–"); found.set("ask-size", data.ask_size ?? "–");
  found.set("spread", data.bid_price !== null && data.ask_price !== null ? spread(data.bid_price, data.ask_price) : "–");
}

const on = {
  state(word, detail) {
    connection = word; reconnects = word === "reconnecting" ? detail : 0;
    if (word === "live") lostAt = null;
    else if (word === "reconnecting" || word === "unanswered") lostAt ??= new Date();   // of the first try, not of each
    badge(detail);
  },
  data(channel, symbol, message) {
    const found = row(symbol), live = message.type === "update";
    if (live || !found.values.last) found.touched(performance.now());
    found.sources.set(channel, stream.channel(message).source);
    if (channel === "quotes") quote(found, message.data);
    else if (channel === "trades") trade(found, message.data, live);
    else if (channel === "status") found.set("state", message.data.action === "trading" ? "" : message.data.action);
    dirty.add(found);
  },
  lost(channel, symbol) { dirty.add(row(symbol)); },
  stale(channel, symbol, reason) { const found = row(symbol); found.staleOf.set(channel, reason); dirty.add(found); },
  source() { for (const found of rows.values()) dirty.add(found); },
  beat(message) { element("lag").textContent = message.lag_ms === null ? "–" : message.lag_ms + " ms"; },
};

function badge(detail) {
  const words = { connecting: "connecting", reconnecting: `reconnecting (${reconnects})`, resyncing: "resyncing", live: "live", refused: "refused", unanswered: "no answer" };
  const broken = connection === "reconnecting" || connection === "refused" || connection === "unanswered";
  element("badge").textContent = words[connection];
  element("badge").className = "badge " + (connection === "live" ? "live" : broken ? "down" : "connecting");
  document.body.classList.toggle("down", broken);
  if (broken) element("lag").textContent = "–";
  const notice = element("notice");
  notice.hidden = !broken;
  notice.textContent = connection === "refused" ? String(detail) : `No connection since ${lostAt?.toLocaleTimeString()}: what you see is old.`;
}

function paint() {
  const now = performance.now();
  for (const found of dirty) {
    if (found.line.hidden) continue;
    for (const column in found.values) if (found.shown[column] !== found.values[column]) found.cells[column].data = found.shown[column] = found.values[column];
    const cell = found.cells.last.parentNode;
    cell.className = "last " + found.direction;
    if (found.flash && now - found.flashedAt > FLASH_MIN_MS) {
      found.flashedAt = now;
      void cell.offsetWidth;    // restarts the animation
      cell.classList.add("flash-" + found.flash);
    }
    found.flash = "";
    const reason = found.stale;
    found.line.classList.toggle("stale", reason !== "");
    if (reason) found.cells.state.data = found.shown.state = "STALE: " + reason;
    else if (found.shown.state !== (found.values.state ?? "")) found.cells.state.data = found.shown.state = found.values.state ?? "";
  }
  dirty.clear();
  requestAnimationFrame(paint);
}

let receivedBefore = 0;
setInterval(() => {
  const now = performance.now();
  element("rate").textContent = stream.received - receivedBefore; receivedBefore = stream.received;
  for (const found of rows.values()) {
    if (found.line.hidden) continue;
    const age = now - found.changedAt;
    found.cells.age.data = age < 1000 ? "" : age < 60_000 ? Math.floor(age / 1000) + " s" : Math.floor(age / 60_000) + " min";
    found.line.classList.toggle("old", age > Math.max(STALE_MIN_MS, STALE_GAPS * found.usualMs));
  }
}, 1000);

element("search").value = filter;
function choose(text) {
  filter = element("search").value = text;
  history.replaceState(null, "", filter ? "?symbol=" + encodeURIComponent(filter) : location.pathname);
  limit();
  for (const found of rows.values()) dirty.add(found);
}
element("search").addEventListener("input", (event) => { if (event.target.value !== filter) choose(event.target.value); });
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== element("search")) { event.preventDefault(); element("search").focus(); }
  if (event.key === "Escape") { choose(""); element("search").blur(); }
});

const stream = new Stream(
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`,
  { channels: ["quotes", "trades", "status"], symbols: ["*"] }, on,
);
window.stream = stream;   // for whoever looks with the browser's tools
requestAnimationFrame(paint);
