"""Venues: raw bytes in, updates out. Pure: no IO, no clock.

- `table`: which venues there are.
- `binance`, `coinbase`, `kraken`, `canonical`: what their frames mean, a file each.
- `source`, `symbol`, `bars`, `ids`: the state machine that all of them drive.
- `decimals`: numbers as text.

How to add a venue stands in README.md beside this file.
"""
