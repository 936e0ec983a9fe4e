"""A machine whose clock is wrong writes all the same, and says so: a broker refuses times that are far from its own."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from aiokafka.structs import TopicPartition

from feed.kafka import append
from feed.kafka.append import Appender
from feed.kafka.cluster import Cluster
from tests.integration.commands import running
from tests.integration.stage import Stage, Viewer, check_exact, said

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Fresh = Callable[[str], str]
HOUR_MS: Final = 3_600_000
STRICT: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(HOUR_MS),
    "message.timestamp.before.max.ms": str(HOUR_MS),
}
"""What a broker does by itself with times of the future, and may be told to do with those of the past."""


def clock(hours: float) -> SimpleNamespace:
    """A wall clock that is so many hours ahead."""
    return SimpleNamespace(time=lambda: time.time() + hours * 3600)


@pytest.mark.parametrize("hours", [2, -24])
async def test_what_is_refused_for_its_time_goes_out_without_one(
    kafka: str, fresh: Fresh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hours: int
) -> None:
    topics = [fresh("clocks"), fresh("clocks")]
    strict, easy = (TopicPartition(topic, 0) for topic in topics)
    async with Cluster(kafka) as cluster:
        await cluster.make_topics({strict.topic: 1}, STRICT)
        await cluster.make_topics({easy.topic: 1}, {"message.timestamp.type": "LogAppendTime"})
        monkeypatch.setattr(append, "time", clock(hours))
        appender = Appender(kafka, compression="zstd")
        await appender.start()
        with caplog.at_level(logging.WARNING, "feed.kafka"):
            for number in range(5):
                sent = [(b"k", b"%d" % number, [("a", b"1")]), (None, b"x" * 100, [])]
                assert await appender.append(strict, sent) == [2 * number, 2 * number + 1]
                assert await appender.append(easy, sent) == [2 * number, 2 * number + 1]
        await appender.stop()
        read = [raw async for page in cluster.read(strict, 0, 10) for raw in page]
        assert [raw.value for raw in read[::2]] == [b"0", b"1", b"2", b"3", b"4"]
        assert {raw.timestamp for raw in read} == {-1}
        read = [raw async for page in cluster.read(easy, 0, 10) for raw in page]
        assert all(abs(raw.timestamp / 1000 - time.time()) < 60 for raw in read)
    [words] = [record.getMessage() for record in caplog.records if record.name == "feed.kafka"]
    assert strict.topic in words
    assert time.strftime("%Y-%m-%dT%H", time.gmtime(time.time())) in words  # the test moved only what is written
    assert "message.timestamp.after.max.ms" in words


@pytest.mark.parametrize("hours", [2, -24])
async def test_a_service_on_a_machine_with_a_wrong_clock_loses_nothing(
    kafka: str, fresh: Fresh, tmp_path: Path, hours: int
) -> None:
    """Normalizer, gateway and `replay publish`, over topics that refuse their times, also after a restart."""
    venue = fresh("desk")
    planted = f"import time; right = time.time; time.time = lambda: right() + {hours * 3600}"
    stage = Stage(kafka, tmp_path, [venue], planted=planted)
    async with Cluster(kafka) as cluster:
        for topic in (stage.settings.ticks_topic(venue), stage.settings.feed_topic(venue)):
            await cluster.make_topics({topic: 1}, STRICT)
    ticks = tmp_path / "ticks.ndjson"
    async with stage:
        found = await stage.cluster.settings(stage.settings.kafka.dead_topic)
        assert found["message.timestamp.type"] == "LogAppendTime"
        for turn in range(2):
            async with stage.running("up", "--port", "0") as up:
                url = await said(up, r"ws://\S+")
                async with Viewer(lambda url=url: url, ["trades"]) as viewer:  # type: ignore[misc]
                    await viewer.answered()
                    ticks.write_text("".join(f"{trade(100 * turn + number)}\n" for number in range(50)))
                    await publish(stage, venue, ticks)
                    truth = await stage.truth()
                    await viewer.has(truth)
                    if not turn:
                        check_exact(viewer.client, truth)
                    assert "stalled" not in {told["reason"] for told in viewer.client.sources.values()}
            assert any("refuses the time of this machine's clock" in line for line in up.err)
        [raws] = await stage.records(stage.settings.feed_topic(venue))
        assert {raw.timestamp for raw in raws} == {-1}
        assert [dict(raw.headers)["kind"] for raw in raws].count(b"source") == 1
        assert await stage.records(stage.settings.kafka.dead_topic) == [[]]


async def publish(stage: Stage, venue: str, file: Path) -> None:
    """`replay publish` on the same machine."""
    command = f"{stage.planted}\nfrom replay.cli import main; main()"
    with running(sys.executable, "-c", command, "publish", str(file), "--venue", venue, cwd=stage.folder) as done:
        assert await asyncio.to_thread(done.wait) == 0, done.err


def trade(number: int) -> str:
    """A line of our own ticks that does not say when it came."""
    ts = str(1_700_000_000_000_000_000 + number)
    body = {"price": "10.5", "size": "1", "side": "buy", "trade_id": str(number), "ts_event": ts}
    return json.dumps({"symbol": "AAPL", "ts_event": ts, "channel": "trades", "data": [body]})
