"""`feed demo`: the whole service with nothing outside of it, on a broker in memory and simulated venues.

- `market`: a made-up order book and its trades; `venue`: what a simulated venue is.
- `binance`, `kraken`, `coinbase`: markets told in a real venue's format, a file each.
- `broker`: librdkafka's mock cluster, a broker that speaks Kafka's protocol.
- `figures`: the settings of a demo, and what it tells while it runs.
- `collect`: steps the venues as time passes and hands on what a collector would have received.

The roles are those of `feed up`; only the broker and the venues are not real.
"""
