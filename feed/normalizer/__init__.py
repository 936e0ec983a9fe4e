"""The role `feed normalize`: reads ticks, runs the state machines, writes the feed logs.

- `role`: all partitions that are ours at the moment.
- `partition`: one of them: take up, then read, step, append, one batch in flight.
- `restore`: how a log goes on: what it says of its writer, and whether a new incarnation is needed.
- `settings`, `ticks`: what a normalizer needs to know; a Kafka record as a tick.

What is written is decided by `feed.feedlog.writer`; which partitions are ours by the consumer group
(`feed.run.membership`), on which nothing rests: two owners at once write equal records, and readers drop the copies.
"""
