"""What every process of the service has, whatever its role.

- `settings`: one frozen tree of all settings, and where each value came from.
- `metrics`: all numbers of a process, counted as plain integers, and Prometheus text of them when somebody asks.
- `logs`: what a server says on stderr; `throttle`: what goes wrong again and again, said once a minute.
- `checks`: what has to hold before others may rely on a process: the lines of `/readyz`.
- `command`: how a command ends: exit codes, and what it says on stderr.
- `tasks`: tasks that surely end: one by one, with the first of several, at a signal.
- `gc_tuning`: the garbage collector of a process that lives long.
"""
