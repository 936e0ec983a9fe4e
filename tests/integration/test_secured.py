"""All roles on a real broker that lets in only whom it knows, each as a user of its own with exactly the rights that it
needs: from tick to client; and what each says when a right is missing, at its start and while it runs.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest
from secured import SecuredBroker

from feed.errors import NotLetIn
from feed.run.topics import make_topics
from feed.runtime.settings import load
from tests.integration.commands import Command, running
from tests.integration.stage import Stage, Viewer, said
from tests.integration.test_recorder import check, wait_complete
from tests.integration.test_standstill import state_of, trade

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Way = Literal["certificate", "password"]
Fresh = Callable[[str], str]
Grant = tuple[str, Literal["topic", "group"], str, str]
"""Who, on which kind of thing, of which name, what."""


class SecuredStage(Stage):
    """A stage of which the commands come by the guarded doors; the stage itself comes by the open one."""

    def __init__(self, broker: SecuredBroker, folder: Path, name: str, way: Way) -> None:
        super().__init__(broker.address, folder, [name])
        self.broker, self.name, self.way = broker, name, way
        kafka = self.settings.kafka
        self.ticks, self.log = self.settings.ticks_topic(name), self.settings.feed_topic(name)
        self.rights: dict[str, Grant] = {
            "ticks": ("normalizer", "topic", self.ticks, "READ"),
            "log": ("normalizer", "topic", self.log, "READ"),
            "writes": ("normalizer", "topic", self.log, "WRITE"),
            "dead": ("normalizer", "topic", kafka.dead_topic, "WRITE"),
            "group": ("normalizer", "group", kafka.group, "READ"),
            "serves": ("gateway", "topic", self.log, "READ"),
            "records": ("recorder", "topic", self.log, "READ"),
            "publishes": ("publisher", "topic", self.ticks, "WRITE"),
        }
        for right in self.rights.values():
            broker.grant(*right)

    def settings_of(self, who: str) -> Path:
        """A settings file for a user."""
        broker = self.broker
        if self.way == "certificate":
            certificate, key = broker.certificate(who)
            address = broker.tls_address
            access = {"security_protocol": "SSL", "client_cert_file": str(certificate), "client_key_file": str(key)}
        else:
            address = broker.sasl_address
            word = broker.users[who]
            access = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": who}
            access |= {"sasl_password": word}
        access |= {"bootstrap": address, "ca_file": str(broker.ca_file), "assign": "group"}
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in access.items()]
        kept = [
            line
            for line in (self.folder / "feed.toml").read_text().splitlines()
            if line.split("=")[0].strip() not in access
        ]
        at = next(number for number, line in enumerate(kept) if line.strip() == "[kafka]")
        folder = self.folder / who
        folder.mkdir(exist_ok=True)
        file = folder / "feed.toml"
        file.write_text("\n".join([*kept[: at + 1], *lines, *kept[at + 1 :]]))
        return file

    @asynccontextmanager
    async def role(self, who: str, *arguments: str) -> AsyncIterator[Command]:
        """A command of a user."""
        async with self.running(*arguments, "--file", str(self.settings_of(who))) as command:
            yield command

    def take(self, what: str) -> None:
        """Takes a right away."""
        self.broker.revoke(*self.rights[what])

    def give(self, what: str) -> None:
        """Gives it back."""
        self.broker.grant(*self.rights[what])

    @asynccontextmanager
    async def roles(self) -> AsyncIterator[tuple[Command, Command, Command]]:
        """A normalizer, a recorder and a gateway of two workers."""
        to = str(self.folder / "to")
        async with (
            self.role("normalizer", "normalize") as normalizer,
            self.role("recorder", "record", "--to", to) as recorder,
            self.role("gateway", "serve", "--port", "0", "--workers", "2") as gateway,
        ):
            await said(normalizer, "normalizing")
            yield normalizer, recorder, gateway

    async def publish_as_publisher(self, *ticks: bytes) -> None:
        """`replay publish`, as a user that may do only that."""
        file = self.settings_of("publisher").parent / "ticks.ndjson"
        file.write_bytes(b"".join(tick + b"\n" for tick in ticks))
        command = ("publish", str(file), "--venue", self.name, "--speed", "max", "--symbol", "A")
        code = "from replay.cli import main; main()"
        with running(sys.executable, "-c", code, *command, cwd=file.parent) as publishing:
            assert await asyncio.to_thread(publishing.wait, 60.0) == 0, publishing.err


@pytest.mark.parametrize("way", ["certificate", "password"])
async def test_from_tick_to_client_with_exactly_these_rights(
    secured: SecuredBroker, tmp_path: Path, fresh: Fresh, way: Way
) -> None:
    name = fresh("desk")
    async with SecuredStage(secured, tmp_path, name, way) as stage, stage.roles() as (normalizer, recorder, gateway):
        # its workers are child processes, which are given the password by it
        url = await said(gateway, r"ws://\S+")
        await stage.publish_as_publisher(trade(1), trade(2))
        await stage.send(name, [("A", b"junk"), ("A", trade(3))])
        async with Viewer(lambda: url, ["trades"]) as viewer:
            await viewer.until(lambda: bool(viewer.channels), "a channel")
            await stage.send(name, [("A", trade(4))])
            truth = await stage.truth()
            await viewer.has(truth)
        assert len((await stage.records(stage.ticks))[0]) == 5
        assert len((await stage.records(stage.settings.kafka.dead_topic))[0]) == 1
        await wait_complete(tmp_path / "to", truth)
        assert await asyncio.to_thread(recorder.end) == 0
        check(tmp_path / "to", truth)
        words = "\n".join([*normalizer.err, *recorder.err, *gateway.err])
        assert [one for one in secured.users.values() if one in words] == []
        assert "retention unknown: no right to DESCRIBE_CONFIGS on the topic" in words


async def test_a_right_that_is_missing_at_the_start_is_named(
    secured: SecuredBroker, tmp_path: Path, fresh: Fresh
) -> None:
    async with SecuredStage(secured, tmp_path, fresh("desk"), "password") as stage:
        settings = load(file=stage.settings_of("normalizer")).settings
        assert await make_topics(settings) == []
        for what in ("ticks", "log", "writes", "dead", "group"):
            _, kind, name, right = stage.rights[what]
            stage.take(what)
            with pytest.raises(NotLetIn, match=rf"^no right to {right} on the {kind} {name}$"):
                await make_topics(settings)
            stage.give(what)
        stage.take("serves")
        stage.take("records")
        async with (
            stage.role("gateway", "serve", "--port", "0") as gateway,
            stage.role("recorder", "record") as recorder,
        ):
            for command in (gateway, recorder):
                assert await asyncio.to_thread(command.wait) == 3
                assert command.err[-1] == f"error: no right to READ on the topic {stage.log}"


async def test_a_right_that_is_taken_away_is_named_and_all_goes_on_when_it_is_back(
    secured: SecuredBroker, tmp_path: Path, fresh: Fresh
) -> None:
    name = fresh("desk")
    async with (
        SecuredStage(secured, tmp_path, name, "certificate") as stage,
        stage.roles() as (normalizer, _, gateway),
        httpx.AsyncClient() as http,
    ):
        url = await said(gateway, r"ws://\S+")
        symbol = f"{name.upper()}:A"
        await stage.send(name, [("A", trade(1))])
        async with Viewer(lambda: url, ["trades"]) as viewer:
            await viewer.until(lambda: bool(viewer.channels), "a channel")

            async def stalls_until_it_is_back(what: str, bad: bytes, number: int, words: str) -> None:
                stage.take(what)
                await stage.send(name, [("A", bad), ("A", trade(number))])
                await said(normalizer, words)
                await viewer.until(lambda: state_of(viewer, symbol)[1] is not None, f"no feed without {what}", 30)
                stage.give(what)
                await viewer.until(lambda: state_of(viewer, symbol) == ("ok", None), f"ok again with {what}", 30)
                await viewer.has(await stage.truth())

            dead = stage.settings.kafka.dead_topic
            await stalls_until_it_is_back(
                "dead", b"junk", 2, f"letters cannot be .*: no right to WRITE on the topic {dead}"
            )
            await stalls_until_it_is_back("writes", trade(3), 4, f"no right to WRITE on the topic {stage.log}")
            await stalls_until_it_is_back("ticks", trade(5), 6, f"no right to READ on the topic {stage.ticks}")

            stage.take("group")
            await said(normalizer, "no member of the group .*: no right to READ on the group")
            await stage.send(name, [("A", trade(7))])
            await viewer.has(await stage.truth())  # writing goes on
            stage.give("group")

            stage.take("serves")
            await said(gateway, f"no right to READ on the topic {stage.log}")
            health = url.replace("ws://", "http://").replace("/v1/stream", "/v1/health")
            await viewer.until(lambda: state_of(viewer, symbol)[1] is not None, "no feed", 30)
            (reason,) = (await http.get(health)).json()["reasons"]
            assert (reason["reason"], reason["venue"]) == ("stalled", name)
            assert reason["found"] == f"cannot be read on: no right to READ on the topic {stage.log}"
            await stage.send(name, [("A", trade(8))])
            stage.give("serves")
            await viewer.until(lambda: state_of(viewer, symbol) == ("ok", None), "ok again", 30)
            truth = await stage.truth()
            await viewer.has(truth)
            applied = viewer.channels["trades", symbol].applied
            assert len(applied) >= 6
            assert applied == truth["trades", symbol][-len(applied) :]
