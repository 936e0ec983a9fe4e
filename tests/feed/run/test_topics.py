"""The topics that roles need: which are made, with how many partitions and whose settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from feed.errors import FeedError
from feed.kafka.access import Entrance
from feed.kafka.rights import Right
from feed.run import topics
from feed.run.topics import make_topics, remake_topics
from feed.runtime.settings import KNOWN_VENUES, Settings, load

pytestmark = pytest.mark.anyio


class Brokers:
    """A cluster that has some topics; it keeps the settings with which each was made."""

    def __init__(self, **known: int) -> None:
        self.known = known
        self.bootstrap = "127.0.0.1:9092"
        self.settings: dict[str, Mapping[str, str]] = {}
        self.needed: list[str] = []

    def __call__(self, entrance: Entrance) -> Brokers:
        assert entrance.access.bootstrap == self.bootstrap
        return self

    async def must_have(self, rights: Iterable[Right]) -> None:
        self.needed = [str(right) for right in rights]

    async def __aenter__(self) -> Brokers:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def topics(self) -> dict[str, int]:
        return dict(self.known)

    async def make_topics(
        self, wanted: Mapping[str, int], settings: Mapping[str, str], *, replication: int
    ) -> list[str]:
        assert replication == 2
        missing = {name: count for name, count in wanted.items() if name not in self.known}
        self.known |= missing
        self.settings |= dict.fromkeys(missing, settings)
        return list(missing)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers(**{"ticks.desk": 7, "other": 1})
    monkeypatch.setattr(topics, "Cluster", made)
    return made


def settings(**more: Any) -> Settings:
    return load({"kafka.partitions": 3, "kafka.replication": 2, **more}).settings


async def test_a_feed_log_has_as_many_partitions_as_its_ticks(brokers: Brokers) -> None:
    own = settings(**{"normalize.venues": "desk,kraken"})
    made = await make_topics(own)
    assert made == ["ticks.kraken", "feed.dead", "feed.desk", "feed.kraken"]
    assert [brokers.known[name] for name in made] == [3, 1, 7, 3]
    assert brokers.settings["ticks.kraken"] == own.topic_settings
    assert brokers.settings["feed.desk"] == brokers.settings["feed.dead"] == own.log_settings
    assert await make_topics(own) == []


async def test_where_no_venue_was_named_those_count_whose_ticks_are_there(brokers: Brokers) -> None:
    brokers.known["ticks.coinbase"] = 2
    assert await make_topics(settings()) == ["feed.dead", "feed.coinbase"]


async def test_where_none_is_there_all_that_are_known_begin(brokers: Brokers) -> None:
    made = await make_topics(settings())
    assert set(made) == {"feed.dead", *(f"{kind}.{name}" for kind in ("ticks", "feed") for name in KNOWN_VENUES)}


async def test_a_venue_that_has_gone_is_made_again_only_where_it_was_named(brokers: Brokers) -> None:
    await remake_topics(settings())
    assert set(brokers.known) == {"ticks.desk", "other", "feed.dead"}
    assert await remake_topics(settings(**{"normalize.venues": "kraken"})) == ["ticks.kraken", "feed.kraken"]


async def test_on_brokers_elsewhere_none_is_made_unless_it_is_asked_for(brokers: Brokers) -> None:
    brokers.bootstrap = "kafka.example:9092"
    there = {"kafka.bootstrap": brokers.bootstrap, "normalize.venues": "desk"}
    with pytest.raises(FeedError, match=r"no topic feed\.dead, feed\.desk, and none is made on brokers elsewhere"):
        await make_topics(settings(**there))
    assert brokers.settings == {}
    assert await make_topics(settings(**there, **{"kafka.create_topics": True})) == ["feed.dead", "feed.desk"]
    assert await make_topics(settings(**there)) == []


async def test_where_none_is_to_be_made_none_is_made_here_either(brokers: Brokers) -> None:
    with pytest.raises(FeedError, match="no topic"):
        await remake_topics(settings(**{"normalize.venues": "desk", "kafka.create_topics": False}))
    assert brokers.settings == {}


async def test_topics_are_called_as_their_venues_have_it(brokers: Brokers) -> None:
    brokers.known |= {"mkt.kraken.v2": 5}
    names = {"venues.kraken.topic": "mkt.kraken.v2", "venues.kraken.feed_topic": "out.kraken"}
    await make_topics(settings(**{"normalize.venues": "kraken", **names}))
    assert brokers.known["out.kraken"] == 5
    assert brokers.needed[1:3] == ["READ on the topic mkt.kraken.v2", "READ on the topic out.kraken"]


async def test_a_normalizer_needs_these_rights_and_no_others(brokers: Brokers) -> None:
    await make_topics(settings(**{"normalize.venues": "desk"}))
    of_desk = ["READ on the topic ticks.desk", "READ on the topic feed.desk", "WRITE on the topic feed.desk"]
    assert brokers.needed == ["READ on the group feed-normalize", *of_desk, "WRITE on the topic feed.dead"]
    await make_topics(settings(**{"normalize.venues": "desk", "kafka.assign": "all"}))
    assert brokers.needed == [*of_desk, "WRITE on the topic feed.dead"]
