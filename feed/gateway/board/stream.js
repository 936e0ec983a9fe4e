// The client's half of the protocol: one connection that comes back by itself, and the rule by which a channel's messages
// are taken or dropped. Knows nothing of the page.

const WAIT_MIN_MS = 250, WAIT_MAX_MS = 8000, SILENT_BEATS = 3;
// what a person sees is asked for: a connection that died in silence is known after the second ping without an answer
const PING_MS = 1000, UNANSWERED_MS = 1800, DEAD_MS = 6000, LOOK_MS = 100;

export class Stream {
  /** `on` has `state(word, detail)`, `data(channel, symbol, message)`, `lost(channel, symbol, gap)`,
   *  `stale(channel, symbol, reason)`, `source(source, reason)` and `beat(heartbeat)`. */
  constructor(url, request, on) {
    this.url = url; this.request = request; this.on = on;
    this.channels = new Map();            // "book COINBASE:BTC-USD" -> {pos, source, waiting, parts, stateSeq}
    this.marks = null; this.tries = 0; this.received = 0;
    const { every_ms, depth, on_lag } = request;
    this.view = { every_ms, depth, on_lag };   // what a channel has to be asked for again with
    this.unanswered = false; this.heardAt = this.pingedAt = performance.now();
    this.forget();
    this.connect();
    setInterval(() => this.look(), LOOK_MS);
    document.addEventListener("visibilitychange", () => { this.heardAt = performance.now(); });
  }

  /** Sees to it that a page which is looked at knows within two seconds that nobody answers. */
  look() {
    const now = performance.now();
    if (document.hidden || !this.welcomed || this.socket.readyState !== WebSocket.OPEN) { this.heardAt = now; return; }
    if (now - this.pingedAt >= PING_MS) { this.pingedAt = now; this.send({ op: "ping" }); }
    const silent = now - this.heardAt;
    if (silent > DEAD_MS) this.drop();
    else if (silent > UNANSWERED_MS && !this.unanswered) { this.unanswered = true; this.on.state("unanswered", ""); }
  }

  drop() { const mute = this.socket; mute.onclose = null; mute.onmessage = null; mute.close(); this.closed(); }

  again(message) { this.send({ op: "subscribe", channels: [message.channel], symbols: [message.symbol], ...this.view, from: "snapshot" }); }

  forget() { this.channels.clear(); this.marks = null; this.sourceStates = new Map(); }

  connect() {
    this.on.state(this.tries ? "reconnecting" : "connecting", this.tries);
    this.nextId = 1; this.catchingUp = false; this.expected = Infinity; this.joined = 0; this.welcomed = false;
    const socket = this.socket = new WebSocket(this.url, "feed.v1.json");
    socket.onmessage = (event) => { this.alive(); for (const message of JSON.parse(event.data)) this.take(message); };
    socket.onclose = () => { if (socket === this.socket) this.closed(); };
    this.heartbeatMs = 5000; this.alive();
  }

  closed() {
    clearTimeout(this.silence);
    this.tries += 1; this.unanswered = false;
    // a channel without its snapshot cannot be resumed: then everything starts anew
    if (!this.marks || this.catchingUp && !this.resuming) this.forget();
    const spread = Math.min(WAIT_MIN_MS * 2 ** (this.tries - 1), WAIT_MAX_MS);
    const wait = this.returnAfterMs ?? spread * (0.5 + Math.random() / 2);
    this.returnAfterMs = undefined;
    this.on.state("reconnecting", this.tries);
    setTimeout(() => this.connect(), wait);
  }

  alive() {
    clearTimeout(this.silence);
    // connected but mute: a half-open connection never says that it is gone
    this.silence = setTimeout(() => this.drop(), this.heartbeatMs * SILENT_BEATS);
    this.heardAt = performance.now();
    if (this.unanswered) { this.unanswered = false; this.on.state("resyncing", ""); this.settle(); }
  }

  send(request) { this.socket.send(JSON.stringify({ ...request, id: this.nextId++ })); }

  take(message) {
    this.received += 1;
    switch (message.type) {
      case "welcome": return this.welcome(message);
      case "ack": return this.ack(message);
      case "joined": this.joined += 1; return this.begin(message);
      case "snapshot": return this.snapshot(message);
      case "update": return this.update(message);
      case "gap": return this.gap(message);
      case "state": return this.state(message);
      case "heartbeat": return this.heartbeat(message);
      case "caught_up": this.catchingUp = false; return this.settle();
      case "goaway": this.returnAfterMs = message.after_ms; if (this.settled()) this.marks = message.marks; return;
      case "error": if (!message.retry) this.on.state("refused", message.message); return;
    }
  }

  welcome(message) {
    this.heartbeatMs = message.heartbeat_ms; this.welcomed = true;
    this.resuming = this.marks !== null;
    this.catchingUp = this.resuming;
    this.send({ op: "subscribe", ...this.request, ...(this.resuming ? { from: { marks: this.marks } } : {}) });
    this.on.state("resyncing", "");
  }

  ack(message) {
    if (message.op !== "subscribe") return;
    if (this.expected === Infinity) this.expected = 0;
    for (const result of message.results) {
      if (result.matched !== undefined) this.expected += result.matched;
      else if (result.ok !== false) this.begin(result);
    }
    this.settle();
  }

  channel(message) {
    const key = message.channel + " " + message.symbol;
    let found = this.channels.get(key);
    if (!found) this.channels.set(key, found = { pos: -1, source: "", waiting: false, parts: [], stateSeq: -1 });
    return found;
  }

  begin(result) {
    const known = this.channels.has(result.channel + " " + result.symbol);
    const channel = this.channel(result);
    if (result.mode === "snapshot") channel.waiting = true;
    else if (result.mode === "live") Object.assign(channel, { pos: result.seq ?? -1, waiting: false, stateSeq: -1 });
    else if (!known || channel.waiting) {   // resumed, but we never had its state
      channel.waiting = true;
      this.again(result);
    }
    if (result.source) channel.source = result.source;
  }

  whole(channel, message) {
    if (!message.part) return message;
    if (message.part[0] === 1) channel.parts = [];
    channel.parts.push(message);
    if (message.part[0] < message.part[1]) return null;
    const parts = channel.parts; channel.parts = [];
    const data = Array.isArray(message.data) ? parts.flatMap((part) => part.data)
      : { bids: parts.flatMap((part) => part.data.bids), asks: parts.flatMap((part) => part.data.asks) };
    return { ...message, data };
  }

  snapshot(message) {
    const channel = this.channel(message);
    if (!channel.waiting || !(message = this.whole(channel, message))) return;
    channel.waiting = false; channel.pos = message.seq; channel.source = message.source;
    this.on.stale(message.channel, message.symbol, null);
    this.on.data(message.channel, message.symbol, message);
    this.settle();
  }

  update(message) {
    const channel = this.channel(message);
    if (channel.waiting || message.seq <= channel.pos) return;
    if (message.prev > channel.pos) {       // a hole of our own
      channel.waiting = true;
      this.again(message);
    } else if ((message = this.whole(channel, message))) {
      channel.pos = message.seq;
      this.on.data(message.channel, message.symbol, message);
    }
  }

  gap(message) {
    const channel = this.channel(message);
    if (message.source === channel.source && message.seq <= channel.pos && message.reason !== "seek") {
      if (message.reason === "venue" && message.seq === channel.pos) this.on.lost(message.channel, message.symbol, message);
      return;
    }
    if (message.source !== channel.source) channel.stateSeq = -1;
    channel.source = message.source; channel.pos = message.seq; channel.parts = [];
    if (!message.lost) channel.waiting = true;
    this.on.lost(message.channel, message.symbol, message);
  }

  state(message) {
    if (message.seq === undefined) {
      this.sourceStates.set(message.source, message.state === "ok" ? null : message.reason);
      return this.on.source(message.source, message.state === "ok" ? null : message.reason);
    }
    const channel = this.channel(message);
    if (message.seq < channel.stateSeq) return;
    channel.stateSeq = message.seq;
    this.on.stale(message.channel, message.symbol, message.state === "ok" ? null : message.reason);
  }

  /** Whether every channel has its state, so that the marks of a heartbeat speak for all of them. */
  settled() {
    if (this.catchingUp || this.joined < this.expected) return false;
    for (const channel of this.channels.values()) if (channel.waiting) return false;
    return true;
  }

  settle() {
    if (this.settled() && !this.unanswered) { this.tries = 0; this.on.state("live", ""); }
  }

  heartbeat(message) {
    if (this.settled()) { this.marks = message.marks; this.settle(); }
    this.on.beat(message);
  }
}
