"""The tree of all settings, and what the core is given of it.

Owns what is to be said of several settings together: which venues a role has, how topics are called, and the plain
Structs of the core (`rules`, `fold_rules`, `hub`).
"""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from feed.channels.hub import HubSettings
from feed.channels.state import FoldRules
from feed.runtime.settings.access import contradiction
from feed.runtime.settings.sections import (
    AdminSettings,
    KafkaSettings,
    LogSettings,
    NormalizeSettings,
    RecordSettings,
    ServeSettings,
    VenueSettings,
)
from feed.runtime.settings.values import KNOWN_VENUES, MS_PER_H, NS_PER_MS, NS_PER_S, Venues, are_here, named_or_known
from feed.venues.bars import BarRules
from feed.venues.tick import Rules


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings = KafkaSettings()
    normalize: NormalizeSettings = NormalizeSettings()
    serve: ServeSettings = Field(default_factory=ServeSettings)
    record: RecordSettings = RecordSettings()
    venues: dict[str, VenueSettings] = {}
    """Single venues, for every role: `[venues.coinbase]`. What their topics are called, how their records are read, and
    of what quotes are made."""
    admin: AdminSettings = AdminSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `load` merges the sources itself, so that it knows where each value came from."""
        return (init_settings,)

    @model_validator(mode="after")
    def _venues_are_named(self) -> Settings:
        named = {*self.normalize.venues, *self.serve.venues, *self.record.venues, *KNOWN_VENUES}
        if unnamed := set(self.venues) - named:
            raise ValueError(f"venues has {min(unnamed)}, which is not among normalize.venues")
        topics: dict[str, str] = {self.kafka.dead_topic: "kafka.dead_topic"}
        for name in sorted(named):
            for topic, what in ((self.ticks_topic(name), "ticks"), (self.feed_topic(name), "feed log")):
                if (other := topics.setdefault(topic, own := f"the {what} of {name}")) != own:
                    raise ValueError(f"topic {topic} is that of {other} and of {own}, wanted one for each")
        return self

    @model_validator(mode="after")
    def _brokers_can_be_reached(self) -> Settings:
        if words := contradiction(self.kafka):
            raise ValueError(words)
        return self

    @property
    def normalized(self) -> Venues:
        """The venues whose ticks are read."""
        return named_or_known(self.normalize.venues)

    @property
    def served(self) -> Venues:
        """The venues whose feed logs the gateway reads."""
        return named_or_known(self.serve.venues or self.normalize.venues)

    @property
    def recorded(self) -> Venues:
        """The venues whose feed logs are recorded."""
        return named_or_known(self.record.venues or self.normalize.venues)

    def ticks_topic(self, venue: str) -> str:
        """The topic of a venue's ticks."""
        return self.venue(venue).topic or f"{self.kafka.ticks_prefix}{venue}"

    def feed_topic(self, venue: str) -> str:
        """The topic of a venue's feed log."""
        return self.venue(venue).feed_topic or f"{self.kafka.feed_prefix}{venue}"

    def venue(self, name: str) -> VenueSettings:
        """What is so of this venue."""
        return self.venues.get(name, VenueSettings())

    @property
    def creates_topics(self) -> bool:
        """Whether topics that are missing are made."""
        creates = self.kafka.create_topics
        return are_here(self.kafka.bootstrap) if creates == "here" else creates

    @property
    def topic_settings(self) -> dict[str, str]:
        """The settings of topics that are made because they are missing."""
        kafka = self.kafka
        least = {"min.insync.replicas": str(kafka.min_insync_replicas)} if kafka.min_insync_replicas else {}
        return {"max.message.bytes": str(kafka.record_bytes_max), **least}

    @property
    def log_settings(self) -> dict[str, str]:
        """The same of feed logs and dead letters: their broker says when something was written, so that no clock of a
        normalizer can be refused."""
        hours = self.kafka.feed_retention_h
        kept = {"retention.ms": str(hours * MS_PER_H)} if hours else {}
        return {**self.topic_settings, "message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete", **kept}

    def rules(self, venue: str) -> Rules:
        """What changes bytes, for the state machine of one venue."""
        normalize = self.normalize
        own = self.venue(venue)
        return Rules(
            trades_kept=normalize.trades_in_snapshot,
            trade_id_runs_max=normalize.trade_id_runs_max,
            quotes_from=own.quotes_from or Rules().quotes_from,
            symbols_max=normalize.symbols_max,
            ts_recv_ahead_max_ns=normalize.ts_recv_ahead_max_s * NS_PER_S,
            bars=BarRules(
                intervals=normalize.bar_intervals,
                grace_ns=normalize.bar_grace_ms * NS_PER_MS,
                every_ns=normalize.bar_interval_min_ms * NS_PER_MS,
                closed_kept=normalize.bars_closed_kept,
            ),
        )

    @property
    def fold_rules(self) -> FoldRules:
        """How much the lists of snapshots hold."""
        return FoldRules(
            trades_kept=self.normalize.trades_in_snapshot, bars_closed_kept=self.normalize.bars_closed_kept
        )

    @property
    def hub(self) -> HubSettings:
        """What a gateway's hub keeps."""
        return HubSettings(
            resume_window_ms=self.serve.resume_window_s * 1000,
            resume_window_bytes_max=self.serve.resume_window_bytes_max,
            page_bytes=self.serve.page_bytes,
            rules=self.fold_rules,
        )

    def silent_after_s(self, venue: str, default: int) -> int:
        """After how many seconds without a tick a venue is silent; `default` is the venue's own."""
        return self.venue(venue).silent_after_s or default
