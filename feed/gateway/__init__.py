"""The gateway: clients on one side, the feed log on the other.

What a client may cost is in `feed.runtime.settings`. `descriptors` holds what the system allows, `sockets` what the
kernel does for one socket, `http` and `ws` are uvicorn's protocol classes with those limits, `app` the routes,
`clients` how each client stands, `worker_stats` what several workers tell of each other, `fanout` and `heartbeats` the
two tasks that send, `deflate` compresses what they send, `health` what can be believed, `flow` how the sources stand,
`probes` the paths by which a process is watched, `gateway` holds them together, `server` runs them and drains. The log
itself is followed by `feed.follow.follower`; what a client is told is decided in `feed.protocol` and `feed.channels`.
"""
