"""A firm's own records without code: a mapping file says what is where, and canonical ticks come of it.

    bytes → record (`formats`) → entries, values (`mapping`, `values`) → canonical ticks → `feed.venues.canonical`

- `shape`: what a mapping file may say. `paths`: where something is in a record.
- `formats`: JSON and CSV; `avro`, `protobuf`: those, by libraries that are extras.
- `schemas`: those that a registry gives, by id.
- `values`: words, scales, units.
- `mapping`: a mapping at work: a pure function from a record to canonical ticks.
- `machine`: the venue that comes of it.
- `proposal`: a mapping proposed from a look at records.

README.md beside this file says what a mapping may say. `examples/` has some.
"""
