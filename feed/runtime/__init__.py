"""What every process has, whatever its role.

- `settings`: the tree of all settings, and where they come from.
- `metrics`: the numbers of a process, and those of several as one.
- `checks`: what has to be so for a process to be relied on, and the answer of `/readyz`.
- `logs`: the form of what is said on stderr; `throttle`: what repeats is said once a minute.
- `command`: exit codes, and what a person is told.
- `tasks`: tasks that end for sure.
- `gc_tuning`: the garbage collector of a process that lives long.
"""
