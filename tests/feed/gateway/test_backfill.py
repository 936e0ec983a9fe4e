"""Requests into the past of feed logs: from any time, and from marks older than memory, each update once, in order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from feed.backfill import cutover, request, requests
from feed.backfill.past import LogCut
from feed.backfill.requests import REQUESTS_MAX
from feed.errors import CorruptLog, Unreachable
from feed.follow.places import place_of
from feed.gateway import backfill
from feed.protocol.session import SessionSettings
from feed.wire.model import KINDS
from feed.wire.times import text_of
from tests.feed.gateway.pasts import SparseLog, StrangeLog, Town
from tests.feed.recorder.made_up import MadeUp, head, truth_of
from tests.reference_client import Client

pytestmark = pytest.mark.anyio
SYMBOLS = {"x/0": ["X:A", "X:B"], "x/1": ["X:C"]}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of the loop is all the time that there is."""
    monkeypatch.setattr(backfill, "_PAUSE_S", 0)


def town(chance: random.Random, steps: int = 150, **settings: Any) -> Town:
    """Two partitions in which much has happened, and more than memory holds."""
    made = [MadeUp(name, symbols, chance) for name, symbols in SYMBOLS.items()]
    for log in made:
        log.grow(steps)
        log.record()
    return Town(made, chance, **settings)


def clock_of(log: MadeUp) -> int:
    return log.source.seq


def wanted_after(town: Town, time: int) -> dict[tuple[str, str], list[bytes]]:
    """The updates of each channel received after a time."""
    truth = truth_of(town.made)
    return {key: [one for one in updates if int(head(one)["ts_recv"]) > time] for key, updates in truth.items()}


def check(client: Client, wanted: dict[tuple[str, str], list[bytes]]) -> None:
    for key, updates in wanted.items():
        channel = client.channels.get(key)
        applied = channel.applied if channel is not None else []
        assert applied == updates, (channel, len(applied), len(updates))
        assert channel is None or not [gap for gap in channel.gaps if gap["reason"] != "venue"]
    assert not client.holes


@pytest.mark.parametrize("at_end", [True, False])
async def test_a_log_that_was_written_at_other_offsets_refuses_the_request(
    at_end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    place = town(random.Random(5))
    log = place.logs["x/0"]
    log.records = [replace(record, floor=record.offset + 100) for record in log.records]
    with pytest.raises(CorruptLog, match="written at other offsets"):
        await place_of(log, LogCut() if at_end else LogCut(time=clock_of(place.made[0]) // 2))
    if not at_end:
        link = place.link()
        link.subscribe("trades", "*", id="t", start={"time": text_of(9)})
        link.ask("ping", id="p")
        await place.until(lambda: "p" in link.client.answers)
        assert link.client.answers["t"]["code"] == "source_unavailable"
        assert "written at other offsets" in caplog.text
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("symbols", ["*", "X:A X:C", "X:*"])
async def test_from_any_time_every_update_comes_once(seed: int, symbols: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        # it is cut over one symbol a page, and the market goes on between them
        monkeypatch.setattr(cutover, "STRIDE", 1)
        monkeypatch.setattr(request, "STEP_CHANNELS", 1)
    chance = random.Random(seed)
    place = town(chance)
    link = place.link()
    time = chance.randrange(-1, min(map(clock_of, place.made)) + 2)
    link.subscribe(" ".join(KINDS), symbols, id="t", start={"time": text_of(max(time, 0))})
    await place.caught_up(link, "t", grows=True)
    place.grow(20)
    await place.until(lambda: link.in_step)
    wanted = wanted_after(place, max(time, 0))
    named = symbols.split()
    check(link.client, {key: value for key, value in wanted.items() if "*" in symbols or key[1] in named})
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("log_type", [StrangeLog, SparseLog])
async def test_what_strangers_write_among_it_is_passed_over(seed: int, log_type: type[StrangeLog]) -> None:
    chance = random.Random(seed)
    place = town(chance, log_type=log_type, resume_window_ms=1_000)
    link = place.link()
    time = chance.randrange(0, min(map(clock_of, place.made)))
    link.subscribe(" ".join(KINDS), "*", id="t", start={"time": text_of(time)})
    await place.caught_up(link, "t", grows=True)
    place.grow(20)
    await place.until(lambda: link.in_step)
    check(link.client, wanted_after(place, time))
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(12))
async def test_damaged_records_are_missing_and_told(seed: int) -> None:
    chance = random.Random(seed)
    place = town(chance, log_type=StrangeLog, resume_window_ms=60)
    for log in place.logs.values():
        data = [index for index, record in enumerate(log.records) if record.kind == "data" and len(record.value) > 2]
        assert isinstance(log, StrangeLog)
        log.damaged = set(chance.sample(data, 3))
    link = place.link()
    link.subscribe(" ".join(KINDS), "*", id="t", start={"time": text_of(3)})
    await place.caught_up(link, "t", grows=True)
    place.grow(40)
    await place.until(lambda: link.in_step)
    truth = truth_of(place.made)
    told = 0
    for key, channel in link.client.channels.items():
        # a channel whose first updates were damaged begins with its state
        first = head(channel.applied[0])["seq"] if channel.snapshots else -1
        seqs = {head(one)["seq"] for one in truth[key] if int(head(one)["ts_recv"]) > 3}
        missing = {seq for seq in seqs - {head(one)["seq"] for one in channel.applied} if seq > first}
        gaps = [gap for gap in channel.gaps if gap["reason"] == "evicted"]
        told += len(gaps)
        for seq in missing:
            assert any(gap["prev"] < seq <= gap["seq"] for gap in gaps), (channel, seq)
        assert not channel.waiting
        assert channel.pos == max(head(one)["seq"] for one in truth[key])
    assert told
    assert not link.client.holes
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("symbols", ["*", "X:A X:C"])
@pytest.mark.parametrize("steps", [3, 150])
async def test_marks_older_than_memory_resume_as_if_the_client_had_stayed(seed: int, symbols: str, steps: int) -> None:
    chance = random.Random(seed)
    place = town(chance, steps)
    stayed, left = place.link(), place.link()
    for link in (stayed, left):
        link.subscribe(" ".join(KINDS), symbols)
        await place.until(lambda link=link: link.in_step)
    place.grow(5)
    left.take(left.session.heartbeat(5))
    marks = dict(left.client.marks)
    assert marks
    place.links.remove(left)
    left.session.close()
    for _ in range(60):
        place.grow(chance.randrange(4))
    left.client.connect()
    back = place.link(left.client)
    back.subscribe(" ".join(KINDS), symbols, id="r", start={"marks": marks})
    await place.caught_up(back, "r", grows=True)
    place.grow(10)
    await place.until(lambda: back.in_step and stayed.in_step)
    for key, channel in stayed.client.channels.items():
        found = back.client.channels[key]
        # what marks cannot speak of begins by snapshot again: nothing of a source, or a state that no update brought
        anew = found.snapshots > channel.snapshots
        assert not anew or steps < 100
        assert anew or found.applied == channel.applied, key
        assert not [gap for gap in back.client.channels[key].gaps if gap["reason"] != "venue"]
        assert back.client.channels[key].holds() == channel.holds()
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(8))
async def test_a_source_that_ends_on_the_way_is_told_as_live(seed: int) -> None:
    chance = random.Random(seed)
    place = town(chance, 60)
    stayed = place.link()
    stayed.subscribe(" ".join(KINDS), "*")
    await place.until(lambda: stayed.in_step)
    time = min(map(clock_of, place.made))
    for log in place.made:
        log.grow(30)
        log.new_source()
        place.follow()
        log.grow(30)
        log.record()
        place.follow()
    place.grow(60)
    link = place.link()
    link.subscribe(" ".join(KINDS), "*", id="t", start={"time": text_of(time)})
    await place.caught_up(link, "t", grows=True)
    await place.until(lambda: link.in_step)
    reasons = {gap["reason"] for channel in link.client.channels.values() for gap in channel.gaps}
    assert "source" in reasons
    for key, channel in stayed.client.channels.items():
        assert link.client.channels[key].holds() == channel.holds(), key
        assert link.client.channels[key].pos == channel.pos
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_deleted_is_a_gap_and_a_snapshot(seed: int) -> None:
    chance = random.Random(seed)
    place = town(chance, 300)
    for log in place.logs.values():
        log.begin = len(log.records) // 2
    link = place.link()
    link.subscribe(" ".join(KINDS), "*", id="t", start={"time": text_of(3)})
    await place.caught_up(link, "t", grows=True)
    place.grow(10)
    await place.until(lambda: link.in_step)
    truth = truth_of(place.made)
    for key, channel in link.client.channels.items():
        evicted = [gap for gap in channel.gaps if gap["reason"] == "evicted"]
        if channel.snapshots:
            assert [gap["prev"] for gap in evicted] == [-1], channel
        assert channel.applied == truth[key][-len(channel.applied) :]
        assert channel.applied
    await place.backfill.stop()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("start", ["marks", "time"])
async def test_a_log_that_forgets_all_the_time_is_a_gap_and_goes_on(seed: int, start: str) -> None:
    """As that of the demo's broker, which deletes a batch for each that comes: what begins it goes while it is read."""
    chance = random.Random(seed)
    place = town(chance, 400)
    for log in place.logs.values():
        log.begin, log.forgets = len(log.records) // 3, 1
    from_: dict[str, Any] = {"marks": {"x/0@a": 3, "x/1@a": 3}} if start == "marks" else {"time": text_of(3)}
    link = place.link()
    link.subscribe(" ".join(KINDS), "*", id="t", start=from_)
    await place.caught_up(link, "t", grows=True)
    assert link.client.answers["t"]["type"] == "ack"
    place.grow(10)
    await place.until(lambda: link.in_step)
    truth = truth_of(place.made)
    for key, channel in link.client.channels.items():
        assert {gap["reason"] for gap in channel.gaps} - {"venue"} <= {"evicted"}, channel
        assert channel.applied
        assert channel.applied == truth[key][-len(channel.applied) :]
    assert not link.client.holes
    await place.backfill.stop()


@pytest.mark.parametrize("start", ["marks", "time"])
@pytest.mark.parametrize("symbols", ["*", "X:A X:C"])
async def test_a_log_that_has_forgotten_everything_is_a_gap_and_what_memory_has(start: str, symbols: str) -> None:
    place = town(random.Random(5), 300)
    for _ in range(60):
        place.grow(2)  # memory moves on
    for log in place.logs.values():
        log.begin = len(log.records)
    from_: dict[str, Any] = {"marks": {"x/0@a": 3, "x/1@a": 3}} if start == "marks" else {"time": text_of(3)}
    link = place.link()
    link.subscribe("trades book", symbols, id="t", start=from_)
    await place.caught_up(link, "t")
    place.grow(40)
    await place.until(lambda: link.in_step and not link.session.due)
    assert len(link.client.channels) == (6 if symbols == "*" else 4)
    truth = truth_of(place.made)
    for key, channel in link.client.channels.items():
        assert [gap["reason"] for gap in channel.gaps if gap["reason"] != "venue"] == ["evicted"], channel
        assert not channel.waiting
        assert channel.applied == truth[key][-len(channel.applied) or len(truth[key]) :]
    assert not link.client.holes
    await place.backfill.stop()


async def test_a_log_that_is_deleted_under_a_request_is_a_gap() -> None:
    chance = random.Random(4)
    place = town(chance, 400)
    link = place.link()
    link.subscribe(" ".join(KINDS), "X:C", id="t", start={"time": text_of(3)})
    await place.until(lambda: link.client.answers)
    for log in place.logs.values():
        log.begin = len(log.records) - 120
    await place.caught_up(link, "t")
    await place.until(lambda: link.in_step)
    truth = truth_of(place.made)
    for key, channel in link.client.channels.items():
        assert [gap["reason"] for gap in channel.gaps if gap["reason"] != "venue"] == ["evicted"], channel
        assert channel.applied[-3:] == truth[key][-3:]
    await place.backfill.stop()


async def test_requests_behind_it_wait_until_it_is_answered() -> None:
    place = town(random.Random(1))
    link = place.link()
    link.subscribe("trades", "X:A X:NOPE", id="t", start={"time": text_of(9)})
    link.ask("ping", id="p")
    assert not link.client.answers
    await place.until(lambda: "p" in link.client.answers)
    assert list(link.client.answers) == ["t", "p"]
    first, second = link.client.answers["t"]["results"]
    assert (first["mode"], first["source"]) == ("snapshot", "x/0@a")
    assert first["seq"] <= 9
    assert second["code"] == "unknown_symbol"
    await place.caught_up(link, "t")
    await place.backfill.stop()


async def test_channels_that_are_taken_away_on_the_way_say_nothing_more() -> None:
    place = town(random.Random(2), 500)
    link = place.link()
    link.subscribe("trades book", "X:A X:B", id="t", start={"time": text_of(9)})
    await place.until(lambda: link.client.answers and link.channel("trades", "X:A").applied)
    listed = link.ask("list", id="l")["results"]
    assert [(one["channel"], one["symbol"]) for one in listed] == [
        ("trades", "X:A"),
        ("trades", "X:B"),
        ("book", "X:A"),
        ("book", "X:B"),
    ]
    assert link.ask("unsubscribe", "trades", "X:A", id="u")["results"][0]["ok"]
    assert link.subscribe("book", "X:A", id="again", start="snapshot")["results"][0]["mode"] == "snapshot"
    kept = link.subscribe("book trades", "X:B", id="kept", on_lag="close")["results"]
    assert {result["mode"] for result in kept} <= {"resumed", "snapshot", "live"}
    await place.caught_up(link, "t")
    place.grow(20)
    await place.until(lambda: link.in_step)
    assert not link.channel("trades", "X:A").open  # the client is strict: a message would have raised
    assert link.channel("book", "X:A").snapshots == 2
    check(
        link.client,
        {key: v for key, v in wanted_after(place, 9).items() if key in [("trades", "X:B"), ("book", "X:B")]},
    )
    listed = link.ask("list", id="l2")["results"]
    found = [(one["channel"], one["symbol"], one["on_lag"]) for one in listed]
    assert found == [("trades", "X:B", "close"), ("book", "X:A", "skip"), ("book", "X:B", "close")]
    await place.backfill.stop()


async def test_patterns_beside_those_of_a_request_stay_when_it_is_live() -> None:
    place = town(random.Random(2), 500)
    link = place.link()
    link.subscribe("trades quotes", "*", id="t", start={"time": text_of(9)})
    await place.until(lambda: link.client.answers)
    link.subscribe("trades", "X:*", id="p", on_lag="close")
    assert link.ask("unsubscribe", "trades", "X:B", id="u")["ok"]
    await place.caught_up(link, "t")

    listed = link.ask("list", id="l")["results"]
    assert [(one["channel"], one["symbol"], one["matched"], one["on_lag"]) for one in listed] == [
        ("trades", "*", 2, "skip"),
        ("trades", "X:*", 2, "close"),
        ("quotes", "*", 3, "skip"),
    ]
    assert link.session.subscribers.raw.interest.count == 3
    # what it has is known, so a new request takes it away first: else updates would come beside it
    link.subscribe("trades", "X:*", id="again", start={"time": text_of(9)})
    place.grow(20)
    await place.caught_up(link, "again")
    place.grow(20)
    await place.until(lambda: link.in_step)
    assert not link.client.holes
    assert link.ask("unsubscribe", "trades", "X:*", id="v")["results"][0]["matched"] == 3
    place.grow(20)
    await place.until(lambda: link.in_step)  # the client is strict: a message of trades would have raised
    await place.backfill.stop()


async def test_a_request_without_channels_ends_and_tells_it() -> None:
    place = town(random.Random(2), 500)
    link = place.link()
    link.subscribe("trades", "*", id="t", start={"time": text_of(9)})
    await place.until(lambda: link.client.answers)
    assert place.backfill.requests == 1
    link.ask("unsubscribe", id="u")
    await place.caught_up(link, "t")
    await place.until(lambda: not place.backfill.requests)
    assert link.ask("list", id="l")["results"] == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("known", ["X:A", ""])
async def test_names_that_are_waited_for_beside_a_history_come_from_their_first_update_on(
    seed: int, known: str
) -> None:
    chance = random.Random(seed)
    place = town(chance)
    link = place.link()
    time = chance.randrange(min(map(clock_of, place.made)))
    link.subscribe("trades book", f"{known} X:NEW", id="t", wait=True, start={"time": text_of(time)})
    await place.until(lambda: "t" in link.client.answers)
    assert [one["mode"] for one in link.client.answers["t"]["results"] if one["symbol"] == "X:NEW"] == ["awaited"] * 2
    begins_first = chance.random() < 0.5
    log = place.made[chance.randrange(2)]
    log.symbols = [*log.symbols, "X:NEW"]
    if begins_first:
        place.grow(15)
    await place.caught_up(link, "t", grows=True)
    place.grow(40)
    await place.until(lambda: link.in_step and not link.session.due)
    listed = {(one["channel"], one["symbol"]) for one in link.ask("list", id="l")["results"]}
    assert {symbol for _, symbol in listed} == {"X:NEW", *([known] if known else [])}
    truth, after = truth_of(place.made), wanted_after(place, time)
    check(link.client, {key: truth[key] if key[1] == "X:NEW" else after[key] for key in listed if key in truth})
    assert link.ask("unsubscribe", "trades book", "X:NEW", id="u")["ok"]
    await place.backfill.stop()


async def test_a_client_that_goes_ends_its_requests() -> None:
    place = town(random.Random(2), 500)
    link = place.link()
    link.subscribe("trades", "*", id="t", start={"time": text_of(9)})
    await place.until(lambda: link.client.answers)
    link.subscribe("book", "*", id="b", start={"time": text_of(9)})
    assert place.backfill.requests == 2
    place.links.remove(link)
    link.session.close()
    await place.until(lambda: not place.backfill.requests)


async def test_requests_of_one_client_are_counted_and_the_next_waits() -> None:
    place = town(random.Random(2), 500)
    link = place.link()
    for number in range(12):
        link.subscribe(KINDS[number % 6], "X:A" if number < 6 else "X:B", id=f"t{number}", start={"time": text_of(9)})
    for number in range(12):
        await place.caught_up(link, f"t{number}")
        assert place.backfill.requests <= REQUESTS_MAX + 1
    await place.until(lambda: link.in_step)
    check(link.client, {key: v for key, v in wanted_after(place, 9).items() if key[1] != "X:C"})
    await place.backfill.stop()


async def test_a_time_to_come_begins_now() -> None:
    place = town(random.Random(2))
    link = place.link()
    link.subscribe("trades quotes", "X:A", id="t", start={"time": "2200-01-01T00:00:00Z"})
    await place.caught_up(link, "t")
    assert link.channel("trades", "X:A").snapshots == 1
    assert place.backfill.requests == 0
    assert link.channel("quotes", "X:A").holds() is not None


async def test_a_time_after_the_newest_tick_is_the_end_of_the_log() -> None:
    place = town(random.Random(2))
    link = place.link()
    link.subscribe("trades quotes", "X:A X:C", id="t", start={"time": "1970-01-01T00:00:01Z"})
    await place.caught_up(link, "t")
    assert link.channel("trades", "X:A").snapshots == 1
    assert not link.channel("trades", "X:A").applied
    await place.backfill.stop()


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unreachable("no kafka broker answers"), "source_unavailable"), (KeyError("planted"), "internal")],
)
async def test_a_log_that_cannot_be_read_refuses_the_request(
    error: Exception, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = town(random.Random(2))

    async def away(partition: str) -> Any:
        raise error

    monkeypatch.setattr(place, "log", away)
    link = place.link()
    link.subscribe("trades", "*", id="t", start={"time": text_of(9)})
    link.ask("ping", id="p")
    await place.until(lambda: "p" in link.client.answers)
    assert link.client.answers["t"]["code"] == code
    assert link.client.answers["t"]["retry_after_ms"] >= 1000


async def test_a_request_that_fails_on_its_way_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    place = town(random.Random(2))
    link = place.link()
    link.subscribe("trades", "*", id="t", start={"time": text_of(9)})
    await place.until(lambda: link.client.answers)

    async def broken(offset: int) -> Any:
        raise KeyError("planted")

    for log in place.logs.values():
        monkeypatch.setattr(log, "page", broken)
    with pytest.raises(KeyError):  # as of a session that fails: close 1011
        await place.until(lambda: "t" in link.client.caught_up)


async def test_limits_count_what_is_on_its_way() -> None:
    place = town(random.Random(2))
    link = place.link(settings=SessionSettings(subscriptions_max=3, patterns_max=1))
    link.subscribe("trades quotes", "X:A", id="t", start={"time": text_of(9)})
    await place.until(lambda: link.client.answers)
    results = link.subscribe("book bars", "X:A", id="more")["results"]
    assert [result.get("code") for result in results] == [None, "subscription_limit"]
    await place.caught_up(link, "t")
    assert len(link.ask("list", id="l")["results"]) == 3
    await place.backfill.stop()


async def test_it_is_cut_over_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutover, "STRIDE", 1)
    monkeypatch.setattr(request, "STEP_CHANNELS", 1)
    looked: list[int] = []
    meets, pull = cutover._meets, requests.BackfillRequests.pull

    def counted(*arguments: Any) -> bool:
        looked[-1] += 1
        return meets(*arguments)

    def pulled(self: requests.BackfillRequests, bytes_max: int) -> bytes:
        looked.append(0)
        return pull(self, bytes_max)

    monkeypatch.setattr(cutover, "_meets", counted)
    monkeypatch.setattr(requests.BackfillRequests, "pull", pulled)
    place = town(random.Random(1))
    link = place.link()
    link.subscribe(" ".join(KINDS), "*", id="t", start={"time": text_of(9)})
    await place.caught_up(link, "t", grows=True)
    assert 0 < max(looked) <= 2 * len(KINDS)  # those of a symbol, and perhaps of the one before
    assert sum(looked) >= sum(len(symbols) for symbols in SYMBOLS.values())
    await place.backfill.stop()


async def test_what_begins_while_it_is_cut_over_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    honest = cutover._compare

    def compare(past: Any, hub: Any, **how: Any) -> Any:
        found.append((yield from honest(past, hub, **how)))
        if found[-1] is not None and not any(found[:-1]):
            hub.moves += 1  # as when a channel begins between two steps

        return found[-1]

    monkeypatch.setattr(cutover, "_compare", compare)
    place = town(random.Random(1))
    link = place.link()
    link.subscribe(" ".join(KINDS), "*", id="t", start={"time": text_of(9)})
    await place.caught_up(link, "t", grows=True)
    assert sum(one is not None for one in found) == 2
    await place.backfill.stop()
