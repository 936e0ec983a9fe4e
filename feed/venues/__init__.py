"""Venues: raw bytes in, updates out. Pure: no IO, no clock, no random number.

The model, in the order in which a tick passes it:

    tick → frame → entries → machine → symbol → messages

1. A *tick* (`tick`) is one message of a venue as a collector received it: the *frame*, its key and its times.
2. The *source* (`source`) finds the symbol by the tick's key. A frame without a key is taken apart by its venue into
   *entries*, one a symbol.
3. The symbol's *machine* (`binance`, `coinbase`, `kraken`, `canonical`) reads what the frame says of it. A venue that
   speaks two dialects has a module for each, and its machine hands each frame to the right one.
4. The machine tells the *symbol* (`symbol`): these trades, this quote, these levels of the book. The symbol keeps the
   state of its channels and makes *messages* of what changed: updates, gaps, states, and snapshots when asked.

Every venue:
- `venue`: what has to be known of one; `CODE_VERSION`. `table`: which ones there are.
- `canonical`: our own JSON tick, for all names that are not in the table.
- `canonical_sent`: the same as people send it, with JSON numbers and fields left out.
- `mapped`: records of a firm's own, made canonical ticks by a mapping file.

Binance:
- `binance`: the machine; what frames mean, alike for spot and futures.
- `binance_spot`, `binance_futures`: what only one of them has: the shape of depth updates, how their ids are chained.
- `binance_frames`: the shapes that both have, and how frames are told apart.
- `binance_book`: depth updates and the snapshots that they are bridged to.
- `binance_ahead`: depth updates that are read many at once.

Coinbase:
- `coinbase`: the machine; which of two sockets a frame comes from.
- `coinbase_exchange`, `coinbase_advanced`: the frames of one socket, and what they mean.
- `coinbase_frames`: how the kind of a frame is known, whichever socket it comes from.
- `coinbase_product`: what is known of a product, whichever socket told it.

Kraken:
- `kraken`: the machine; which of two sockets a frame comes from.
- `kraken_v1`, `kraken_v2`: the frames of one socket, and what they mean.
- `kraken_frames`: the head of an object, whichever socket it comes from.
- `kraken_pair`: what is known of a pair, whichever socket told it: `kraken_trades`, and `kraken_books` with one
  `kraken_book` a stream.

What machines read with:
- `times`, `texts`, `feed.wire.decimals`: times, texts and numbers as venues write them, checked.
- `sent`: numbers, times, sides and ids as people send them in JSON.
- `rows`: rows that are longer than is known. `bulk_levels`: the sides of many book updates at once.
- `legible`: what can still be read of a frame that was refused.

What a symbol consists of:
- `symbol`: the channels of one symbol, and its messages. `now`: what all symbols of a source share.
- `levels`: the book. `bars`: trades added up.
- `known`, `ids`: which trades were seen. `counters`: when a venue's numbers have begun anew.
- `source`: all symbols of one source, its clock, checkpoints. `clock`: when a tick without a time came.

To add a venue: a machine and its functions in a module of its own (one more for each dialect), its shapes and its table
of kinds at the top of that; a line in `table`; captures and tests. README.md beside this file says it step by step.
"""
