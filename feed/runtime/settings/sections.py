"""The sections of the tree: every setting, declared once: its name, unit, bound, default and one sentence.

Roles take a section as it is. A default that the core has by itself (of its Structs, which know no pydantic) is taken
from there.
"""

from __future__ import annotations

import socket
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from feed.channels.hub import HubSettings
from feed.protocol.line import SessionSettings
from feed.runtime.settings.values import (
    MEBIBYTE,
    NS_PER_MS,
    NS_PER_S,
    Brokers,
    Count,
    Format,
    Intervals,
    Kinds,
    Names,
    Positive,
    Seconds,
    Symbols,
    Topic,
    VenueNames,
)
from feed.venues.tick import Rules
from feed.wire.model import KINDS

_RULES: Final = Rules()
_HUB: Final = HubSettings()
_SESSION: Final = SessionSettings()


class Section(BaseModel):
    """A part of the tree: frozen, and closed to names that it does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


class KafkaSettings(Section):
    """How Kafka is reached, and what its topics are called."""

    bootstrap: Brokers = "127.0.0.1:9092"
    """Brokers to ask first, `HOST:PORT[,HOST:PORT]`; an IPv6 address in brackets."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How they are spoken to: `SSL` and `SASL_SSL` encrypt, `SASL_PLAINTEXT` and `SASL_SSL` log in."""
    ca_file: str = ""
    """Certificates (PEM) of the authorities that are believed; empty: those of the system."""
    client_cert_file: str = ""
    """Our own certificate (PEM), where brokers ask for one (mTLS)."""
    client_key_file: str = ""
    """Its private key (PEM, without a passphrase); empty: it lies in the certificate's file."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = ""
    """How we log in: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` (name and password) or `OAUTHBEARER` (a token)."""
    sasl_username: str = ""
    """The name; with a token URL the client's id."""
    sasl_password: SecretStr = SecretStr("")
    """The password; with a token URL the client's secret. Never shown."""
    sasl_password_file: str = ""
    """A file with the password in its place, read once at the start; a line end behind it does not count."""
    token_url: str = ""
    """Where tokens are asked for, by client credentials (RFC 6749, section 4.4)."""
    token_scope: str = ""
    """The scope that is asked for there; empty: none."""
    token_provider: str = ""
    """`module:function` that gives a token, or it and its life in seconds, in place of a URL."""
    ticks_prefix: str = "ticks."
    """The tick topic of a venue is this and the venue's name."""
    feed_prefix: str = "feed."
    """The feed log of a venue is this and the venue's name."""
    dead_topic: str = "feed.dead"
    """Where ticks go that cannot be used, with their reason."""
    group: str = "feed-normalize"
    """The consumer group in which normalizers share the partitions."""
    create_topics: bool | Literal["here"] = "here"
    """Whether topics that are missing are made; `here`: where all brokers are on this machine."""
    partitions: Positive = 4
    """Partitions of topics that are made; a feed log gets as many as its ticks."""
    replication: Positive = 1
    """Their replicas."""
    min_insync_replicas: Count = 0
    """So many replicas have a record of them before it counts as written; 0: as the cluster has it."""
    feed_retention_h: Count = 0
    """How long feed logs keep what they have; 0: as the cluster has it."""
    record_bytes_max: Positive = 16 * MEBIBYTE
    """`max.message.bytes` of such topics: the largest tick."""
    fetch_max_wait_ms: Positive = 500
    """How long an idle fetch waits at the broker; a real broker answers at once when something comes."""
    session_timeout_ms: Positive = 6_000
    """A normalizer that is silent for so long loses its partitions to the others."""
    heartbeat_interval_ms: Positive = 500
    """How often a normalizer says that it lives."""
    compression: Literal["zstd", "none"] = "none"
    """Of what is written to the feed log: `none` or `zstd`."""
    assign: Literal["group", "all"] = "group"
    """`all`: this normalizer takes every partition and no group is joined (one process, one normalizer)."""


class VenueSettings(Section):
    """What may be set for one venue; what is left out has the venue's own default."""

    topic: Topic = ""
    """The topic of its ticks; empty: `kafka.ticks_prefix` and its name."""
    feed_topic: Topic = ""
    """The topic of its feed log; empty: `kafka.feed_prefix` and its name."""
    format: Format | None = None
    """How its records are read: as those of a known venue, `canonical` (our JSON ticks) or `mapped` (by `mapping`);
    left out: as those of the venue of that name, else as our JSON ticks."""
    mapping: str = ""
    """The file that says what is where in its records; schemas that it names are beside it."""
    schema_registry: str = ""
    """Where schemas are fetched that the mapping leaves to a registry, `http://HOST:PORT`; with a password best in the
    environment."""

    quotes_from: Literal["stream", "book"] | None = None
    """Quotes come from the venue's top-of-book stream (the default), or from its book; never from both."""
    silent_after_s: Positive | None = None
    """Clients are told `silent` when no tick came for so long."""

    @model_validator(mode="after")
    def _mapped_by_a_mapping(self) -> VenueSettings:
        if (self.format == "mapped") != bool(self.mapping):
            raise ValueError('format = "mapped" and mapping = FILE, wanted both or neither')
        return self


class NormalizeSettings(Section):
    """What the normalizer writes. Of these, what changes bytes is part of the state version."""

    venues: VenueNames = ()
    """The venues whose ticks are read; none named: the known ones whose tick topics are there, also those that come
    later. A name without a format of its own has our JSON ticks."""
    trades_in_snapshot: Annotated[int, Field(gt=0, le=10_000)] = _RULES.trades_kept
    """Trades that a snapshot holds."""
    trade_id_runs_max: Positive = _RULES.trade_id_runs_max
    """How much is remembered of trade ids to know a trade that was sent twice: runs of consecutive ids."""
    symbols_max: Positive = _RULES.symbols_max
    """Symbols of one source; ticks of one more are dead letters."""
    bar_intervals: Intervals = _RULES.bars.intervals
    """Bars that are made of trades; none: no bars."""
    bar_grace_ms: Count = _RULES.bars.grace_ns // NS_PER_MS
    """A bar closes so long after its end, on the clock of the ticks."""
    bar_interval_min_ms: Positive = _RULES.bars.every_ns // NS_PER_MS
    """At most one bars message a symbol in this time."""
    bars_closed_kept: Positive = _RULES.bars.closed_kept
    """Closed bars of each interval that a snapshot holds."""
    ts_recv_ahead_max_s: Positive = _RULES.ts_recv_ahead_max_ns // NS_PER_S
    """A tick whose receive time is further ahead of the broker's (LogAppendTime) is a dead letter; where records
    have no time, a week ahead of its source's clock, unless the next one goes on from it."""
    keyframe_ratio: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Bytes of keyframes for each byte of updates."""
    keyframe_round_max_s: Positive = 3_600
    """Every symbol has a keyframe at least so often, where the topics' retention does not ask for more."""
    keyframe_round_min_ms: Count = 1_000
    """A symbol has no keyframe more often than that, whatever was written."""
    poll_ticks_max: Positive = 2_000
    """Ticks that one record of the feed log covers at most."""
    alive_ms: Positive = 1_000
    """A record is written at least so often, also when there is nothing to say."""
    open_transaction_max_ms: Positive = 10_000
    """Ticks that a transaction which is still open holds back for longer are told to wait: the source is `stalled`."""
    rival_silence_ms: Positive = 10_000
    """A normalizer with other settings takes over when nothing was written to the venue's logs for so long."""


class LimitSettings(Section):
    """What one client, one address and all of them may cost."""

    message_bytes_max: Positive = _SESSION.message_bytes_max
    """A client's message, all its frames together, in bytes; one more closes with 1009."""
    message_frames_max: Positive = 1024
    """Frames that such a message may be cut into; one more closes with 1009."""
    bytes_per_second: Positive = 128 * 1024
    """What one client may send, lasting, control frames included; over it its socket is read more slowly."""
    frames_per_second: Positive = 500
    """Frames of one client, the same way."""
    burst_seconds: Seconds = 4.0
    """How many seconds of both rates may be used at once."""
    overload_seconds: Seconds = 10.0
    """A client that was held back for so long without a pause is closed with 1008."""
    connections_max: Positive = 10_000
    """WebSocket connections of all clients (of a worker); one more gets HTTP 503."""
    connections_per_address_max: Count = 2_000
    """TCP connections of one address; one more gets HTTP 429. 0: no limit, as behind a proxy."""
    http_connections_max: Positive = 256
    """TCP connections over `connections_max`, so that probes are answered while the gateway is full."""
    handshake_bytes_max: Positive = 16 * 1024
    """A request's line and headers; more gets HTTP 431."""
    handshake_seconds: Seconds = 5.0
    """From the connection, or the first byte of a later request, to the whole request; then HTTP 408."""
    http_per_second: Annotated[int, Field(ge=0)] = 100
    """Requests over HTTP of one address; probes count by themselves, and so do handshakes of WebSockets. More gets HTTP
    429. 0: no limit, as behind a proxy."""
    http_burst: Positive = 400
    """So many of them at once; of handshakes as many as an address may have connections, where that is more."""
    response_seconds: Seconds = 30.0
    """From the request to its answer's last byte, of a history to its next piece; then it is cut."""
    histories_max: Positive = 4
    """Answers of `/v1/history` at once; one more gets HTTP 503."""
    history_bytes_per_second_min: Positive = 64 * 1024
    """Who takes a history slower than that, over all of it and `response_seconds`, is cut: its place is for others."""
    replays_max: Positive = 16
    """Connections to `/v1/replay` at once, each some tens of MB of memory; one more gets HTTP 503."""
    walks_max: Positive = 8
    """Subscriptions from a time, or from marks older than memory, that are read for at once; others wait in line."""
    write_bytes_max: Positive = 32 * 1024
    """Unsent bytes of one client beyond the kernel's; a reader over it is left behind at its position."""
    kernel_unsent_bytes_max: Positive = 128 * 1024
    """Bytes that the kernel takes for one client before the network does (`TCP_NOTSENT_LOWAT`)."""
    close_seconds: Seconds = 2.0
    """From our close frame to the end of the connection, whatever the client does."""


class RequestSettings(Section):
    """What one client may ask for."""

    subscriptions_max: Positive = _SESSION.subscriptions_max
    """Channels by name and kinds of patterns of one client; one more is `subscription_limit`."""
    patterns_max: Positive = _SESSION.patterns_max
    """Kinds of patterns among them, with the exceptions from them."""
    symbols_max: Positive = _SESSION.symbols_max
    """Symbols that one request names; one more is `subscription_limit`."""
    requests_per_second: Positive = _SESSION.requests_per_second
    """Requests of one client, lasting; more wait, in order."""
    requests_burst: Positive = _SESSION.requests_burst
    """Requests at once after a pause."""
    requests_delayed_max: Positive = _SESSION.requests_delayed_max
    """Requests that wait so; one more is refused, `rate_limited`."""
    requests_refused_max: Positive = _SESSION.requests_refused_max
    """Refusals without a pause between; one more closes with 1008."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The share of the loop's time that requests of all clients may take together where others need it; beyond it they
    wait, in turns."""
    every_ms: tuple[Positive, ...] = _SESSION.every_ms
    """Intervals at which views of channels are offered; none: no such views."""
    depth: tuple[Positive, ...] = _SESSION.depth
    """How many of the best levels views of books have; none: no such views."""


class ServeSettings(Section):
    """How the gateway runs."""

    host: str = "127.0.0.1"
    """The address it listens on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port it listens on; 0: any free one."""
    server: str = Field(default_factory=socket.gethostname)
    """Its name in `welcome`."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the port, each with limits and a resume window of its own."""
    venues: VenueNames = ()
    """The venues that it serves; none named: those of `normalize.venues`, else known ones whose logs are there."""
    recordings: str = ""
    """The folder (or URI) of recordings that it serves too: history and replays; empty: none."""
    client_addresses: bool = False
    """Whether `/v1/clients` tells the addresses of clients; the log always does."""
    origins: Names = ()
    """Origins of browsers allowed besides the server's own host; `null` may be named."""
    hosts: Names = ("localhost", "127.0.0.1", "[::1]")
    """Names that are the server's own host for origins, and on loopback all that `Host` may be; digits pass."""
    resume_window_s: Positive = _HUB.resume_window_ms // 1000
    """How far back a client can resume."""
    resume_window_bytes_max: Positive = _HUB.resume_window_bytes_max
    """What the updates of all channels together may take for it."""
    heartbeat_ms: Annotated[int, Field(ge=100)] = _SESSION.heartbeat_ms
    """How often a client gets its marks."""
    ping_interval_ms: Positive = 10_000
    """How often a client is pinged; one that gives no sign of life until the ping after it is dropped."""
    flush_share: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The share of the loop's time that sending may take: the busier, the further apart flushes are."""
    flush_interval_busy_ms: Count = 25
    """How far apart flushes are where the loop has little time left: fewer and larger writes."""
    flush_interval_max_ms: Positive = 1_000
    """Flushes are never further apart."""
    page_bytes: Positive = _HUB.page_bytes
    """What a reader that catches up gets at a time."""
    deflate: bool = True
    """Whether clients that ask for permessage-deflate get it."""
    deflate_level: Annotated[int, Field(ge=1, le=9)] = 1
    """zlib's level, 1 (quick) to 9."""
    deflate_bytes_min: Positive = 512
    """A frame with fewer bytes goes out as it is."""
    deflate_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of the loop's time that compressing may take; beyond it frames go out as they are."""
    kafka_silence_ms_max: Positive = 5_000
    """The gateway is not ready when Kafka has not answered for so long."""
    stall_ms_max: Positive = 5_000
    """It is not alive when its loop has not turned for so long; a worker is killed after three times that."""
    drain_ms: Positive = 8_000
    """From the signal to the last connection closed."""
    reconnect_spread_ms: Positive = 5_000
    """Clients are told to come back at a random moment within it, so that they do not come at once."""
    limits: LimitSettings = LimitSettings()
    """What clients may cost: `[serve.limits]`."""
    requests: RequestSettings = RequestSettings()
    """What clients may ask for: `[serve.requests]`."""


class RecordSettings(Section):
    """What is recorded, into which folder, and how long it is kept."""

    to: str = "recordings"
    """The folder; one recorder a folder."""
    venues: VenueNames = ()
    """The venues that are recorded; none named: those of `normalize.venues`, else known ones whose logs are there."""
    kinds: Kinds = KINDS
    """The kinds of channels that are recorded."""
    symbols: Symbols = ("*",)
    """Symbols or patterns (`KRAKEN:*`) that are recorded."""
    raw: bool = False
    """Also the ticks as they lie in Kafka, to be put through a normalizer again."""
    flush_interval_ms: Positive = 1_000
    """A batch is written at least so often, where anything happened."""
    flush_bytes: Positive = 4 * MEBIBYTE
    """And when so much has come: what a recorder holds in memory."""
    sync_interval_ms: Positive = 2_000
    """What was written survives a power cut after so long at most."""
    rotate_bytes: Positive = 256 * MEBIBYTE
    """A file of this size is sealed and a new one begun."""
    rotate_s: Positive = 3_600
    """So is one of this age."""
    keyframe_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Bytes of updates for each byte of keyframes within a file: less is found sooner, more is smaller."""
    keyframe_bytes_min: Positive = MEBIBYTE // 2
    """Bytes of updates between two rounds of keyframes at least."""
    keep_s: Count = 0
    """Sealed files older than this are deleted, on the recording's own clock; 0: never."""
    keep_bytes: Count = 0
    """The oldest sealed files are deleted where there is more; 0: never."""
    free_bytes_min: Count = 1024 * MEBIBYTE
    """Recording pauses where less is free on the disk."""
    retry_ms: Positive = 1_000
    """How often a paused recorder looks whether it can go on."""


class AdminSettings(Section):
    """A port of its own for those who look after a process: `/livez`, `/readyz`, `/metrics`, whatever its role."""

    host: str = "127.0.0.1"
    """The address it listens on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """The port it listens on; 0: none. A gateway has those paths on the clients' port too."""


class LogSettings(Section):
    """What is said on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is said: `debug`, `info`, `warning` or `error`."""
    form: Literal["auto", "json", "text"] = "auto"
    """`text`, `json` (an object a line) or `auto`: text on a terminal, JSON elsewhere."""
