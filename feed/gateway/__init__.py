"""The gateway: clients on one side, the feed log on the other.

What a client is told is decided in `feed.protocol` and `feed.channels`; the log is followed by `feed.follow`. Here are
sockets, HTTP, limits, and the tasks that send.

Put together:

- `gateway`: the object that holds the hub and the connections; `server`: runs it with uvicorn, and drains it.
- `descriptors`: what the system allows; `sockets`: what the kernel does for one socket. What a client may cost is in
  `feed.runtime.settings`.

A connection, from outside to inside:

- `doors`: who may come in, and how often an address may ask; `origin`: which browsers and host names.
- `http`: HTTP with deadlines and limits; `app`: the routes; `answers`: their JSON; `pages`, `probes`: the board, and
  `/livez`, `/readyz`, `/metrics`.
- `ws`: a client's WebSocket: what it may send, and what becomes of it when its socket is full; `parser`: its frames;
  `rates`: how fast it may send.

Sending:

- `fanout`: flushes to subscribers in step, pages to the others; `flush_pacing`: when the next flush may begin.
- `turns`: clients' requests within a share of the loop's time; `heartbeats`: marks, pings, dead connections.
- `deflate`: frames compressed once for all that get them.

The past:

- `backfill`: feed logs read for requests that begin in the past; `backfill_recorded`: the same out of recordings.
- `recordings`: the recordings that are served; `catalog`: which channels they have.

What is told of it:

- `flow`: whether data flows, source by source; `health`: whether this process can serve.
- `clients`, `merged`: what each client was sent of all that it had coming.
- `worker_stats`: several workers as one gateway to the outside.
"""
