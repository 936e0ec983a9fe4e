"""The role `feed normalize`: reads ticks, runs the state machines, writes the feed logs.

- `role`: all partitions that are ours at the moment, a task each.
- `partition`: one of them: take up the log, then read, step, append, one batch in flight.
- `restore`: a writer's state taken from its log; `plan`: whether the log goes on in its incarnation or in a new one.
- `rivals`: who may write a venue's logs; `takeover`: an operator's word against that rule.
- `registry`: a schema registry, where a venue has one, and which ticks wait for it.
- `dead`: dead letters on their way into their topic.
- `numbers`: what was done and how it stands, for metrics and for the log.
- `settings`: what a normalizer needs to know, and the version of its bytes; `ticks`: a Kafka record as a tick.

What is written is decided by `feed.feedlog.writer`. Which partitions are ours is decided by the consumer group
(`feed.run.membership`), and nothing rests on that: two owners at once write equal records, and readers drop the copies.
"""
