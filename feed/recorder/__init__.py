"""The role `feed record`: feed logs in, Arrow files out.

- `role`: the cycle: records come in, a flush makes rows, a commit makes batches; and pauses while the disk fails.
- `session`: one life between two failures, joined to what the files hold already; `recovery`: where the last writer
  left them.
- `rows`: a flush of the hub as rows of tables; `commits`: rows into the open files of all tables, at one position.
- `retention`: how long files are kept; `lock`: one recorder a folder.
- `health`: what can be believed of a recorder.
- `raw`: ticks as they lie in Kafka, recorded beside (`--raw`).
"""
