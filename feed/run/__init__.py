"""Roles put together: which objects a command is made of, what runs in which process, and how a process ends.

A command is a list of coroutines in one event loop. They run until a signal comes or the first of them ends; the others
are ended then (`feed.runtime.tasks.together`). There is one way to each thing:

| command | this process runs | its children |
|---|---|---|
| `feed normalize` | a normalizer | |
| `feed serve` | a gateway and the follower that feeds it | |
| `feed serve --workers N` | `Workers`, the parent | N workers, each a gateway with its follower |
| `feed up` | a normalizer, and a gateway or `Workers` | workers; with `--record` a recorder |
| `feed record` | a recorder, with `record.raw` one of ticks too | |
| `feed demo` | a broker, venues, a normalizer and a gateway | with `--record` a recorder |
| `replay serve` | a gateway over recordings alone (`replay.alone`) | |

Whatever has a port for those who look after it (`admin.port`) has that in the command's own process; it speaks for the
children, too.

What a role is made of:

- `up`: normalizer, gateway and follower from the settings (`build`), and their run to a common end (`run_together`).
- `venues`: the venue of a name, with the files of its mapping.
- `record`: a recorder from the settings, and `feed record`.
- `membership`: which partitions a normalizer has: a consumer group's share, or all.
- `topics`: which topics must be there; they are made where that is wanted.

The commands:

- `roles`: `feed up`, `normalize` and `serve`: which roles, in which process.
- `demo_run`: `feed demo`, with what its figures count.
- `topics_shown`: `feed topics`: what a configuration needs of a cluster, as a table or as commands.
- `takeover`: `feed takeover`: what is about to happen, the question, what has happened.
- `doctor`: `feed doctor`: what roles would find, and a remedy for each thing.
- `map_sample`: `feed map sample`: the newest records of a venue as lines.
- `map_check`: `feed map init` and `check`: a mapping proposed, and what becomes of records by one.
- `tail`: `feed tail`, a client that keeps the client's rule over reconnections. It runs no role.

Processes and ports:

- `child`: a child process, from both sides: started, told its task, heard, ended. Every child of a command is one.
- `recorder_process`: a recorder as a child; it tells its status by lines, and the parent tells its numbers.
- `workers`, `worker`: the parent of a gateway's workers, and one of them. They ask each other for their numbers
  (`feed.gateway.worker_stats`), since the kernel gives a request to any of them.
- `watched`, `admin`: whether there is a port for those who look after the process, and the server that answers there.
- `ports`: whether a port is free, how workers share one, what a person is told of it.

Imports that only types need: `admin` and `feed.gateway.gateway` where a process may have none of it, since they bring a
web server; `feed.normalizer.role` in `membership`, which is handed to it; `feed.gateway.probes` in `up`, a protocol.
"""
