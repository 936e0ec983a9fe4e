"""The feed log as it is written. How it is read is `feed.wire.log_reader`.

- `writer`: ticks in, records out; and after a restart records in, the state of a writer out. Decides which ticks a
  record covers, and when keyframes and checkpoints are due.
"""
