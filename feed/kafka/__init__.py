"""The door to Kafka: everything of this project that speaks to a broker goes through here.

- `access`: how brokers are reached, and why they do not let us in; every connection is made by its options.
- `tokens`: tokens for those that ask for one; `msk`: those of AWS's IAM.
- `rights`: what we may do there, and which right is missing.
- `cluster`: who leads what, where logs begin and end, which topics there are, and reading a range of a log once.
- `fetch`: following many partitions at once, as batches of raw records.
- `batches`: record batches as a fetch brings them, checked and taken apart.
- `append`: appending records to one partition, in order, with their offsets.
- `produce`: what several partitions have ready, sent in one request.
- `requests`: fetch and produce requests and their answers, in bytes.
- `partitioner`: which partition a key belongs to, as Kafka's own clients choose it.
- `waits`: how long what lies in a log has waited, by this process' own clock.
- `connection`: keeps aiokafka alive under uvloop when a broker dies, and secrets out of its log; in force as soon as
  anything here is imported.

It fetches below aiokafka's documented API: one fetch for all partitions of a broker costs a quarter of the CPU of its
consumer, and look-ups do not wait behind an idle long poll. The minor version is pinned for that, and
`tests/integration/test_kafka.py` holds what is relied on.
"""

from feed.kafka import connection as connection  # for what it does
