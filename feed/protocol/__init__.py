"""The protocol as a machine without a socket: texts of a client in, frames out, and time as an argument.

The model: a connection is a `Dialogue`. The socket's owner hands it each text message (`receive`) and sends what comes
back. It calls `wake` when requests that were delayed may go on (`wake_at`, `under_way`), and `pull` when data is due
and the socket takes more. A `Close` raised by any of these ends the connection, after the frames that it carries.

A text holds one request or several. They wait in a line, are done in order and answered in order, each once. What one
costs is taken before it is done; a large one is done in steps, and nothing of it is sent before it is answered.

- `request`: the form of each request, and the words for what is wrong with one (tests/feed/protocol/test_request.py).
- `line`: the line of requests: order, rate, steps, limits, errors; also the words of `welcome` and of an ack
  (test_line.py). Which errors may be tried again is read from `schemas/errors.json`.
- `dialogue`: what every session does alike: welcome, goaway, `ping`, `auth`, sizes, what a request costs
  (test_dialogue.py).
- `session`: the live stream: subscribing, marks that lie ahead, requests into the past, heartbeats (test_session.py).
  A replay's session is `replay.session`; both keep the same promises (tests/contract/test_sessions.py).
"""
