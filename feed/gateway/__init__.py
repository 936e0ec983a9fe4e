"""The gateway: clients on one side, the feed log on the other.

`limits` holds what a client may cost, `descriptors` what the system allows, `http` and `ws` are uvicorn's protocol
classes with those limits, `app` the routes, `clients` how each client stands, `siblings` what several workers tell of
each other, `fanout` and `pulse` the two tasks that send, `deflate` compresses what they send, `health` what can be
believed, `flow` how the sources stand, `probes` the paths by which a process is watched, `gateway` holds them together,
`server` runs them and drains. The log itself is followed by `feed.follow.follower`; what a client is told is decided in
`feed.protocol` and `feed.channels`.
"""
