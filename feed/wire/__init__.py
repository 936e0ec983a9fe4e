"""The ground floor: what bytes look like. Everything else may import it; it imports only the error tree.

A message is a Struct of `model`, and its bytes are the same wherever it is: in the feed log, in a recording, in a
client's frame.

- `model`: the messages of the protocol, their fields in order, and the words in them.
- `frames`: messages to text frames and back.
- `message`: messages as bytes that are split and joined without reading JSON.
- `parts`: messages too large for one frame, cut into parts.
- `record`: a record of the feed log: headers that say which ticks it covers, and messages as its value.
- `log_reader`: which records of a feed log are valid, and what of them is new. Every reader of a log uses it.
- `symbols`, `times`, `decimals`: the one grammar of symbols and patterns, of times, and of numbers as text.
- `prices`: prices in order: the two ways to sort them exactly.
- `hashes`: one hash of a stream, whether it was seen live, replayed, or in pieces.
"""
