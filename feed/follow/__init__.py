"""Feed logs followed into a hub: a gateway's or a recorder's. The gateway also looks here for places in the past.

- `follower`: all logs of a process: when reading starts, starts again, and goes on.
- `followed`: one partition: its records into the hub, and the verdict on its source (`ok`, `silent`, `stalled`, …).
- `floors`: where reading starts: always at the floor of some record.
- `places`: where reading of the past starts, found by bisection.
"""
