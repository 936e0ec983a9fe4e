"""A request that begins in the past, from being asked until its channels are live.

The idea
--------
`from: {"time": …}`, or marks older than memory, ask for what was, then for all that followed, then for what comes, as
one chain. So a request gets a *past*: a hub and a subscriber of its own, which read the feed logs again from an earlier
place. They are the code that serves live clients, so snapshots, chains, gaps and new sources are the same bytes. When a
past has read its logs to their ends, and memory holds all that follows, its channels are *cut over*: joined to the live
hub as those of any client that resumes by marks. `caught_up` says so.

Three stores follow each other in time: recordings (if the gateway serves any), the feed logs, memory. Where the logs
do not reach back far enough, a *recorded part* is sent first, and the logs are cut where it ends.

    asked ──▶ found, read to the cuts ──▶ answered ──▶ recorded part ──▶ logs ──▶ cut over ──▶ live
                      │                                 └──────── failed, or left ────────┘
                      └──▶ refused

The table in `request.BackfillRequest` has the stages, what ends each, and who calls it.

Two sides work on a request. The *connection* (`requests`, called by `feed.protocol.session`) answers it and sends its
pages, in the client's own turns. The *reader* (`feed.gateway.backfill`, a task each; `request.BackfillReader` here)
fetches from Kafka and recordings. It fetches a page when the page before was sent, so memory does not grow with the
time that lies between, and a client that does not read is not read for. Nothing in this package does IO or reads a
clock.

The files
---------
`request`: the stages of one request. A failure before the answer refuses the request, one after it ends the connection:
what its client has would be of no use (test_request.py::test_what_fails_after_its_answer_ends_its_connection, and
::test_what_fails_while_it_is_answered_ends_its_connection). What is sent comes before what is compared
(::test_what_came_meanwhile_is_sent_before_it_is_compared). A busy log is never found at its end for long, and one that
forgets may never meet memory: after `ATTEMPTS_MAX` tries a request becomes live with a gap
(::test_where_memory_and_log_never_meet_it_becomes_live_with_a_gap).

`requests`: all requests of one connection. A request waits in the connection's line until it is known where it begins,
and those behind it wait too, so that answers come in order
(test_requests.py::TestAnswer::test_it_waits_until_it_is_known_and_those_behind_it_wait_too). A channel is in one place
only: in the past of one request, or on the live stream. A client that asks for it again moves it
(::TestWhileItIsRunning::test_another_one_replaces_its_channels, ::test_a_channel_that_is_asked_for_anew_is_live), but a
change of parameters leaves it where it is (::test_one_whose_parameters_are_changed_stays_where_it_is). Limits count
what is running (::TestAnswer::test_limits_count_what_is_running). Names that are not known begin live
(::test_names_that_are_waited_for_begin_live).

`past`: logs that are cut (`LogCut`), read up to there (`PastLog`), and their hub (`Past`). A cut may lie within a
record: what of it is before the cut is state, the rest comes as updates
(test_past.py::TestCut::test_what_lies_before_it_is_the_state_and_what_follows_comes_as_updates). A gap belongs to the
update that it stands before (::test_a_gap_goes_with_the_update_that_it_stands_before). A tick that fills several
records counts with the last of them (::test_a_tick_that_fills_several_records_counts_with_the_last_of_them). Where
records are missing the reader is told, and goes back
(::TestPast::test_a_hole_is_told_to_the_reader_and_what_was_given_after_it_dropped); what is damaged is a gap
(::TestLog::test_what_cannot_be_read_is_missing_and_its_channels_have_a_gap). After marks a channel that begins later is
`resumed`, since its client may have it from its begin on
(::TestPast::test_after_marks_a_channel_that_begins_later_is_resumed_too).

`recorded`: what recordings hold, as messages. What was recorded last of a channel has to be where the past finds it, or
a `gap` of reason `recording` is told
(test_past.py::TestRecorded::test_a_channel_goes_on_only_from_where_it_was_recorded_to); so has what lies before a
channel's first message, if anything does (test_recorded.py::test_a_channel_that_begins_inside_a_hole_says_so). Where a
recording breaks off, the logs go on with a gap
(test_request.py::test_where_a_recording_breaks_off_the_logs_go_on_with_a_gap).

`cutover`: whether past and memory meet, and the join. They are compared in steps, and the market goes on between them:
what has changed is compared again (test_cutover.py::TestSteps::test_what_has_changed_meanwhile_is_compared_again), and
where something changes all the time it is done at once
(::test_where_something_changes_all_the_time_it_is_done_at_once). A hole or a new source that the past has yet to tell
keeps them apart (::test_a_hole_that_the_past_has_yet_to_tell_is_told_first,
::test_a_source_that_has_ended_is_told_by_the_past).

The tests named here are in tests/feed/backfill. With the reader, logs that grow and made-up chances:
tests/feed/gateway/test_backfill.py and test_backfill_recorded.py; on a real broker tests/integration/test_past.py.

Imports for types only, none of them part of a circle: `past` and `request` name `recorded.RecordedPart`, which they
are given; `cutover` names `past.Past`.
"""
