"""A replay's session: what it says is what was recorded, in order and in time, whatever it is asked in between."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import schemas
from feed.protocol.session import SessionSettings
from feed.recording.filter import ChannelFilter, Filter
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import RecordingCut
from feed.wire.model import KINDS
from feed.wire.times import text_of
from tests.feed.recorder.made_up import MadeUp
from tests.feed.recorder.tape import FILES, Tape
from tests.reference_client import Channel, payloads
from tests.replay.desk import Desk, S

SYMBOLS = [["TOY:A", "TOY:B"], ["POP:A", "POP:B"]]
ALL = [*KINDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, one of which is replaced; holes, stale books, states; several files."""
    root = tmp_path_factory.mktemp("recordings")
    logs = [
        MadeUp(f"{name}/0", symbols, random.Random(n))
        for n, (name, symbols) in enumerate(zip(("toy", "pop"), SYMBOLS, strict=True))
    ]
    for log in logs:
        log.grow(250)
        log.record()
    logs[0].new_source()
    for log in logs:
        log.grow(150)
        log.record()
    tape = Tape(root, [log.log for log in logs], files=FILES.model_copy(update={"rotate_bytes": 20_000}))
    tape.play(15)
    tape.end()
    return root


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    made = Desk(folder)
    yield made
    made.close()


class Truth:
    """The recording as a list."""

    def __init__(self, folder: Path, chosen: Filter | None = None) -> None:
        self.recording = RecordingFiles(str(folder))
        self.rows: list[tuple[int, bytes]] = []
        for page in self.recording.pages(chosen or Filter(), separator=""):
            self.rows += zip(page.clock.tolist(), [m.encode() for m in page.messages.to_pylist()], strict=True)

    def between(self, start: int, end: int) -> list[bytes]:
        """Messages from a clock on, up to another."""
        return [message for clock, message in self.rows if start <= clock < end]

    @property
    def begin(self) -> int:
        return self.rows[0][0]

    @property
    def end(self) -> int:
        return self.rows[-1][0]

    @property
    def middle(self) -> int:
        return self.rows[len(self.rows) // 2][0]


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return Truth(folder)


# ---- one way through


@pytest.mark.parametrize("page_bytes", [1, 2_000, 1 << 20])
def test_it_says_what_was_recorded_byte_for_byte(folder: Path, truth: Truth, page_bytes: int) -> None:
    desk = Desk(folder, page_bytes=page_bytes)
    desk.subscribe(ALL, ["*"])
    desk.replay("open", speed="max")
    assert desk.states == ["ready"]
    assert not list(desk.data())
    desk.replay("play")
    assert list(desk.data()) == [message for _, message in truth.rows]
    assert desk.states == ["ready", "playing", "ended"]
    assert desk.time == truth.end + 1
    desk.close()


def test_a_channel_is_joined_before_its_first_message(desk: Desk, truth: Truth) -> None:
    desk.subscribe(["trades"], ["TOY:*"])
    desk.replay("open", speed="max")
    desk.replay("play")
    begun = desk.messages("joined")
    assert [(m["mode"], m["seq"]) for m in begun] == [("live", -1)] * 2
    assert {m["symbol"] for m in begun} == {"TOY:A", "TOY:B"}


def test_an_open_in_the_middle_begins_with_how_channels_stood(desk: Desk, truth: Truth) -> None:
    desk.subscribe(["book"], ["TOY:A", "POP:*"])
    desk.replay("open", from_=text_of(truth.middle), speed="max")
    stood = truth.recording.standing(
        ChannelFilter([("book", s) for s in ("TOY:A", "POP:A", "POP:B")]), RecordingCut(truth.middle - 1)
    )
    assert list(desk.data()) == [m for found in stood.values() for m in found.messages]
    assert [m["mode"] for m in desk.messages("joined")] == ["snapshot"] * len(stood)
    before = len(list(desk.data()))
    desk.replay("play")
    wanted = [m for m in truth.between(truth.middle, truth.end + 1) if b'"channel":"book"' in m and b"TOY:B" not in m]
    assert list(desk.data())[before:] == wanted


def test_a_subscribe_after_open_is_acked_as_on_a_live_stream(desk: Desk, truth: Truth) -> None:
    desk.replay("open", from_=text_of(truth.middle))
    answer = desk.subscribe(["book", "trades"], ["TOY:A"])
    stood = truth.recording.standing(
        ChannelFilter([("book", "TOY:A"), ("trades", "TOY:A")]), RecordingCut(truth.middle - 1)
    )
    assert [(r["mode"], r["source"], r["seq"]) for r in answer["results"]] == [
        ("snapshot", stood[kind, "TOY:A"].source, stood[kind, "TOY:A"].seq) for kind in ("book", "trades")
    ]
    again = desk.subscribe(["book"], ["TOY:A"])["results"][0]
    assert (again["mode"], again["seq"]) == ("resumed", answer["results"][0]["seq"])
    live = desk.subscribe(["quotes"], ["TOY:A"], from_="live")["results"][0]
    assert live["mode"] == "live"
    assert not [m for m in desk.messages("snapshot") if m["channel"] == "quotes"]


def test_a_misspelt_field_is_seen_in_the_answer(truth: Truth, desk: Desk) -> None:
    assert desk.replay("open", spede=5)["ignored"] == ["spede"]
    assert "ignored" not in desk.replay("pause")


def test_a_range_ends_before_its_end(desk: Desk, truth: Truth) -> None:
    start, end = truth.begin + 30, truth.middle
    desk.subscribe(ALL, ["*"])
    desk.replay("open", from_=text_of(start), to=text_of(end), speed="max")
    before = len(list(desk.data()))
    desk.replay("play")
    assert list(desk.data())[before:] == truth.between(start, end)
    assert desk.time == end


def test_a_recording_that_is_being_written_is_played_as_it_was_when_the_client_came(tmp_path: Path) -> None:
    log = MadeUp("toy/0", ["TOY:A"], random.Random(2))
    log.grow(300)
    log.record()
    tape = Tape(tmp_path / "recordings", [log.log], files=FILES.model_copy(update={"rotate_bytes": 8_000}))
    half = len(log.records) // 2
    tape.read(0, half)
    tape.commit()
    first = Truth(tmp_path / "recordings").rows
    early = Desk(tmp_path / "recordings")
    while tape.read(0, 10):
        tape.commit()
    tape.commit()
    late = Desk(tmp_path / "recordings")
    whole = Truth(tmp_path / "recordings").rows
    assert len(first) < len(whole)
    for desk, rows in ((early, first), (late, whole)):
        desk.subscribe(ALL, ["*"])
        desk.replay("open", speed="max")
        desk.replay("play")
        assert list(desk.data()) == [message for _, message in rows]
        desk.close()
    tape.die()


# ---- in time


def test_rows_come_when_the_clock_says_so(desk: Desk, truth: Truth) -> None:
    desk.subscribe(ALL, ["*"])
    desk.replay("open", speed=0.5)
    desk.replay("play")
    seen = 0
    for clock in range(truth.begin, truth.begin + 40):
        wanted = truth.between(truth.begin, clock + 1)
        assert list(desk.data()) == wanted, clock
        seen = len(wanted)
        desk.turn(2)
    assert seen


def test_pause_speed_and_play_go_on_from_the_same_place(desk: Desk, truth: Truth) -> None:
    desk.subscribe(ALL, ["*"])
    desk.replay("open", speed=1)
    desk.replay("play")
    desk.turn(20)
    desk.replay("pause")
    seen = list(desk.data())
    assert seen == truth.between(truth.begin, truth.begin + 21)
    desk.turn(100)
    assert list(desk.data()) == seen
    desk.replay("play")
    desk.turn(5)
    desk.replay("speed", speed=10)
    desk.turn(2)
    at = truth.begin + 21 + 5 + 20 + 1  # what was sent up to 26 is not due again
    assert list(desk.data()) == truth.between(truth.begin, at + 1)
    desk.turn(10_000)
    assert list(desk.data()) == [message for _, message in truth.rows]
    assert desk.states == ["ready", "playing", "paused", "playing", "playing", "ended"]


def test_it_tells_where_it_is_once_a_second(folder: Path, truth: Truth) -> None:
    desk = Desk(folder)
    desk.replay("open", speed=0.1)
    desk.replay("play")
    desk.turn(1000)
    assert desk.states == ["ready", "playing"]
    desk.close()
    slow = Desk(folder)
    slow.replay("open", speed=0.1)
    slow.session.flow.end = 10**12  # as if nothing came for a long time
    slow.replay("play")
    slow.turn(3 * S + 1)
    assert slow.states == ["ready", "playing", "playing", "playing", "playing"]
    slow.close()


def test_a_late_reader_is_waited_for(folder: Path, truth: Truth) -> None:
    desk = Desk(folder)
    desk.subscribe(ALL, ["*"])
    desk.replay("open", speed=1)
    desk.replay("play")
    desk.turn(10)
    desk.reads = False
    desk.turn(100 * S)
    seen = len(list(desk.data()))
    desk.reads = True
    desk.settle()
    assert len(list(desk.data())) - seen <= 8, "what the reader missed does not come at once"
    desk.turn(truth.end)
    assert list(desk.data()) == [message for _, message in truth.rows]
    desk.close()


# ---- steps


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_step_is_so_many_updates(desk: Desk, truth: Truth, count: int) -> None:
    desk.subscribe(ALL, ["*"])
    desk.replay("open")
    for _ in range(60):
        before = len(desk.messages("update"))
        desk.replay("step", n=count)
        assert len(desk.messages("update")) - before == count
        assert desk.states[-2:] == ["playing", "paused"]
    desk.replay("step", n=10_000)
    assert desk.states[-1] == "ended"
    assert list(desk.data()) == [message for _, message in truth.rows]


def test_a_step_until_a_time(desk: Desk, truth: Truth) -> None:
    desk.subscribe(ALL, ["*"])
    desk.replay("open", speed=0.1)
    desk.replay("step", until=text_of(truth.middle))
    assert list(desk.data()) == truth.between(truth.begin, truth.middle)
    assert (desk.states[-1], desk.time) == ("paused", truth.middle)
    assert desk.replay("step", until=text_of(truth.middle))["code"] == "bad_replay"


# ---- seeks


def test_a_seek_gives_each_channel_a_gap_and_its_state(desk: Desk, truth: Truth) -> None:
    desk.subscribe(["book", "trades"], ["TOY:A"])
    desk.replay("open", speed="max")
    desk.replay("play")
    sent = len(list(desk.data()))
    ends = {m["channel"]: m["seq"] for m in desk.messages("update")}
    desk.replay("seek", time=text_of(truth.middle))
    told = list(desk.data())[sent:]
    stood = truth.recording.standing(
        ChannelFilter([("book", "TOY:A"), ("trades", "TOY:A")]), RecordingCut(truth.middle - 1)
    )
    gaps = desk.messages("gap")[-2:]
    assert [(g["channel"], g["reason"], g["prev"], g["seq"], g["lost"]) for g in gaps] == [
        (kind, "seek", ends[kind], stood[kind, "TOY:A"].seq, False) for kind in ("trades", "book")
    ]
    assert [m for m in told if b'"type":"gap"' not in m] == [m for found in stood.values() for m in found.messages]
    assert (desk.states[-1], desk.time) == ("paused", truth.middle)
    desk.replay("play")
    assert desk.states[-1] == "ended"


def test_a_seek_before_a_channel_began_says_so(desk: Desk, truth: Truth) -> None:
    desk.subscribe(["trades"], ["TOY:A"])
    desk.replay("open", speed="max")
    desk.replay("play")
    desk.replay("seek", time=text_of(truth.begin))
    assert (desk.messages("gap")[-1]["seq"], desk.messages("gap")[-1]["lost"]) == (-1, False)
    begun = len(desk.messages("joined"))
    desk.replay("play")
    assert len(desk.messages("joined")) == begun + 1


# ---- limits


def test_subscriptions_are_limited_as_on_a_live_stream(folder: Path) -> None:
    desk = Desk(folder, settings=SessionSettings(subscriptions_max=3, patterns_max=1))
    answer = desk.subscribe(["book", "trades"], ["TOY:A", "TOY:B"])
    assert [result.get("code") for result in answer["results"]] == [None, None, None, "subscription_limit"]
    desk.ask(op="unsubscribe")
    answer = desk.subscribe(["book", "trades"], ["*"])
    assert [result.get("code") for result in answer["results"]] == [None, "subscription_limit"]
    desk.close()


def test_a_list_costs_what_it_walks_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(folder, settings=SessionSettings(requests_per_second=10, requests_burst=100))
    desk.ask(op="subscribe", channels=ALL, symbols=["*"])
    monkeypatch.setattr("feed.protocol.line.CHANNELS_A_TOKEN", desk.session.selection.count / 60)
    text = b'[{"op":"list","id":"a"},{"op":"list","id":"b"}]'
    answers = [m for frame in payloads(desk.session.receive(text, desk.now)) for m in json.loads(frame)]
    assert [answer["id"] for answer in answers] == ["a"]
    assert desk.session.wake_at is not None
    desk.close()


def test_requests_over_the_rate_wait_and_are_answered_in_order(folder: Path) -> None:
    desk = Desk(folder, settings=SessionSettings(requests_per_second=10, requests_burst=5))
    frames = b"".join(desk.session.receive(desk.client.ask({"op": "ping"}), 0) for _ in range(8))
    assert frames.count(b'"pong"') == 5
    desk.told(frames)
    now = 0
    while len(desk.client.answers) < 8:
        assert desk.session.wake_at is not None
        now = desk.session.wake_at
        desk.told(desk.session.wake(now))
    assert list(desk.client.answers) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert 2 * S // 10 <= now <= S // 2
    desk.close()


# ---- what a client should not send


@pytest.mark.parametrize("seed", range(20))
def test_any_text_gets_an_answer_or_a_named_error(folder: Path, seed: int) -> None:
    """Fields of every kind of value, bytes changed anywhere: nothing is raised, and what is asked next is answered."""
    chooser = random.Random(seed)
    desk = Desk(folder)
    values: list[Any] = [None, True, -1, 0, 1, 2**53, 1.5, -0.1, 1e308, "", "max", "300", "1e9", "2026-13-01", [], {}]
    names = ["from", "to", "time", "speed", "n", "until", "do", "id", "op", "channels", "symbols"]
    does = ["open", "play", "pause", "seek", "speed", "step", "stop", "fly"]
    for number in range(60):
        request: dict[str, Any] = {"op": "replay", "id": number, "do": chooser.choice(does)}
        for name in chooser.sample(names, chooser.randrange(4)):
            request[name] = chooser.choice(values)
        text = bytearray(json.dumps(request).encode())
        for _ in range(chooser.randrange(3) if chooser.random() < 0.3 else 0):
            text[chooser.randrange(len(text))] = chooser.randrange(32, 127)
        for frame in payloads(desk.session.receive(bytes(text), 0)):
            for message in json.loads(frame):
                assert message["type"] != "error" or message["code"] in schemas.errors()
        desk.reads = False
        desk.settle()
        while desk.session.due:
            desk.session.pull(1 << 20, 0)
            desk.settle()
    answers = [
        m for frame in payloads(desk.session.receive(b'{"op":"list","id":"last"}', 0)) for m in json.loads(frame)
    ]
    assert answers[0]["id"] == "last"
    desk.close()


# ---- anything in any order


def random_walk(desk: Desk, truth: Truth, chooser: random.Random) -> None:
    """Requests at random; the client checks every promise, the position is checked here."""
    names = ["TOY:A", "TOY:B", "POP:A", "POP:B", "TOY:*", "*"]

    def some(words: list[str]) -> list[str]:
        return chooser.sample(words, chooser.randrange(1, 3))

    def at() -> str:
        return text_of(chooser.randrange(truth.begin, truth.end + 2))

    def leave() -> None:
        desk.ask(op="unsubscribe", channels=some(ALL), symbols=some(names))
        # who gives a channel up forgets where it was: a replay that is moved meanwhile says nothing of it
        for channel in set(desk.client.channels) - set(desk.session.selection.chosen):
            del desk.client.channels[channel]

    acts: list[tuple[int, Any]] = [
        (3, lambda: desk.subscribe(some(ALL), some(names))),
        (1, lambda: desk.subscribe(some(ALL), some(names), from_=chooser.choice(["snapshot", "live"]))),
        (2, leave),
        (4, lambda: desk.replay("play")),
        (3, lambda: desk.replay("pause")),
        (2, lambda: desk.replay("seek", time=at())),
        (2, lambda: desk.replay("speed", speed=chooser.choice([0.1, 1, 3.5, 1000]))),
        (3, lambda: desk.replay("step", n=chooser.randrange(1, 20))),
        (1, lambda: desk.replay("step", until=at())),
        (1, lambda: desk.replay("stop")),
        (2, lambda: desk.replay("open", from_=at(), speed=chooser.choice([1, "max"]))),
        (6, lambda: desk.turn(chooser.randrange(1, 40))),
        (2, lambda: desk.told(desk.session.heartbeat(0))),
    ]
    weights = [weight for weight, _ in acts]
    for _ in range(120):
        desk.page_bytes = chooser.choice([1, 500, 1 << 20])
        chooser.choices([act for _, act in acts], weights)[0]()
    desk.page_bytes = 1 << 20


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_asked_the_clients_rule_leads_to_what_was_recorded(folder: Path, truth: Truth, seed: int) -> None:
    desk = Desk(folder)
    chooser = random.Random(seed)
    desk.replay("open", from_=text_of(truth.begin + chooser.randrange(100)))
    random_walk(desk, truth, chooser)
    desk.replay("open")
    desk.replay("pause")
    desk.replay("step", until=text_of(desk.time + chooser.randrange(1, 50)))
    assert desk.states[-1] in ("paused", "ended")
    assert not desk.client.holes
    chosen = desk.session.selection.chosen
    stood = truth.recording.standing(ChannelFilter(chosen), RecordingCut(desk.time - 1)) if chosen else {}
    for channel, found in stood.items():
        mine = desk.client.channels[channel]
        assert (mine.pos, mine.waiting, mine.source) == (found.seq, False, found.source), channel
        if not mine.partial:
            assert mine.holds() == _held(channel, found.messages), channel
    desk.close()


def _held(channel: tuple[str, str], messages: list[bytes]) -> Any:
    """The state in a snapshot, as the client holds it."""
    fresh = Channel(*channel)
    fresh.waiting = True
    for message in map(json.loads, messages):
        if message["type"] == "snapshot":
            fresh.snapshot(message)
    return fresh.holds()
