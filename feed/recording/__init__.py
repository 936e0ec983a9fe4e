"""The door to Arrow files: what a recording holds, on disk and as messages again.

A recording is a table for each kind of channel, one for gaps and one for states. A table is a series of files, a file a
series of batches, and each batch has a note that says up to where each source was read, with a checksum.

From messages to disk:

- `tables`: the Arrow schemas of all tables; `columns`: messages as typed columns; `decimals`: number texts as
  decimal128; `words`: dictionaries of columns, which only grow.
- `notes`: what a batch says of itself; `blocks`, `frames`: batches as bytes, and where each of them begins and ends.
- `part`: the file that is being written; `seal`: it, rewritten as a file that every reader of Arrow opens.
- `folder`: where files are; `disk`: what writing needs of a disk, so that tests can let it fail.

From disk to messages:

- `recording`: an opened recording: its tables, its messages in order, states at any time.
- `files`: one file, each batch verified before use; `table_files`: the files of one table; `grown`: what is known of a
  file that still grows.
- `filter`: which channels are asked for, and the rows that are theirs.
- `merge`: all tables and sources in one order, a page at a time; `state_at`: how each channel stood at a cut.
- `footing`: from where on it can be read, when the first files were deleted.
- `text`: rows as the messages that they were, byte for byte; `json_text`: JSON of whole columns.
- `verify`: whether a file is what was written.
"""
