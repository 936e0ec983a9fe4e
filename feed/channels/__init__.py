"""Channels: from the records of feed logs to what each client is sent. No sockets, no clock, no Kafka.

The model
=========

A *channel* is one kind of one symbol (`trades` of `KRAKEN:BTC-USD`). Its updates form a chain: each names the `seq` of
the one before. A channel is kept as a state to join at and the log of what came after it, so that a client can begin
with the state, or go on after a position that the log still reaches.

Records change nothing that clients see. They go into the *open flush*; `Hub.flush` commits it: from then on its
channels stand where it says, and it is kept in a *window* of the last flushes. `Hub.fan_out` gives it to the
subscribers. So all that is seen belongs to the end of some flush, and no client has half a tick.

A *subscriber* is one client's place in one hub. *In step* it has everything up to the last flush, and is sent the next
one by its *selection*: the set of its channels, shared by all subscribers that have the same, and sent as one buffer to
all of them. Out of step it is a cursor (the flush up to which it was sent its selection) and *joins*: channels that it
has yet to be given, each with where it goes on from. It `pull`s pages until it is in step again: first the flushes
after its cursor, or where the window has moved on a join of all its channels, then its joins. A request only adds and
takes away joins and what is in the selection; a full socket only makes a cursor of a place in step. So joining,
resuming, lagging and changing views are one thing.

A *view* sees channels less often, or a book less deep. It is a hub of its own that is fed with the commits of the raw
hub, merged, instead of with records. A client has a subscriber in the raw hub and one in each view it has channels in.
The *distributor* holds the raw hub and its views, and has them flush and fan out together.

The files
=========

What goes around:

- `distributor`: raw hub and views side by side; flush, fan-out and due times of all. From `flush` to the end of
  `fan_out` no client may ask or pull (`test_no_request_while_a_flush_is_sent`); the marks told meanwhile are those of
  the flush before (`test_marks_told_during_a_fan_out_are_those_of_the_flush_before`).
- `hub`: all channels and all subscribers of one way of seeing them, and the door to what follows. A recorder, and a
  past that is read again, have a hub and nothing else of this list.
- `views`: what a view makes, owes and drops. What is too much for one flush is told by several
  (`test_what_is_too_much_for_one_flush_is_told_by_several`); what nobody wants goes in pieces
  (`test_what_nobody_wants_goes_in_pieces_and_what_is_asked_for_meanwhile_stays`). `view_spec`: the two numbers that a
  view is.

What comes in:

- `intake`: records taken apart into the open flush. An update that follows the one before is known by comparing bytes.
  A copy changes nothing (`test_copies_of_messages_change_nothing`), a venue's gap goes out with the update after it
  (`test_a_venues_hole_goes_out_with_its_update_and_never_without`), of two sources that know a symbol the one whose
  tick came last has it (`TestMoves`).
- `source`: one source, how far it was read, and what of a record waits for the next one
  (`test_half_a_tick_is_not_seen`).
- `rebase`: a channel goes on from a state that does not follow from what it said: a new source, a hole in the log, a
  state after waiting (`TestIncarnations`, `TestHole`).
- `flush`: what changed between two moments, the commit, and the window. A symbol has runs or entries in a flush
  (`test_a_symbol_has_runs_or_entries_in_a_flush`); a clock that jumps ages nothing
  (`test_a_time_that_jumps_evicts_nothing`).
- `log`: what a channel said, as entries and as runs of updates that stay the text that they came as
  (`test_a_committed_run_is_one_text`).

What there is:

- `channel`: a channel, and a symbol with its channels (`Listing`): what a subscriber is given that begins, goes on, or
  has lost something.
- `state` and `books`: updates folded into a snapshot, with the bytes of the normalizer's keyframe
  (`test_folds_are_the_normalizers_keyframes`).
- `conflation`: many updates made one, for a view. Each level that entered or left the best ones at any moment is named
  (`test_what_was_among_the_best_for_a_moment_is_named_as_gone`).
- `roster`: symbols by id, name and venue; a pattern looks at no other venue
  (`test_a_pattern_looks_at_names_of_its_venue_alone`).
- `lost`: where channels stood at cursors whose next flush is gone, so that gaps name how many updates are missing
  (`test_gaps_count_exactly_what_is_missing_for_each_of_many_cursors`) and a flush that goes costs only what was in it
  (`test_a_flush_that_goes_costs_what_was_in_it_whatever_slow_readers_have`).

What goes out:

- `selection`: one buffer for each distinct selection
  (`test_equal_selections_share_one_buffer_however_they_came_about`).
- `subscriber`: one client's place: leaving step, catching up, joining. What a channel begins with is a table there.
- `join` and `pending`: channels on their way into step, in which order, and what is announced. Requests that ask the
  same are worked out once (`test_equal_joins_are_worked_out_once`), and `shared` keeps what they are sent
  (`test_equal_joins_get_equal_messages_however_many_there_were_before`).
- `marks`: up to which position of each source a client was sent everything. They never go back; a source stands in them
  before a channel of it was sent (`test_every_source_of_a_venue_stands_in_marks_before_a_channel_of_it_was_sent`).
- `tally`: what became of each update that a subscriber had coming, in sums that must agree.

What is asked for:

- `subscription`: requests, and what the ack says of each item. A large one is done in steps (`steps`), each as of the
  flush that it finds (`test_a_step_joins_as_of_the_flush_that_it_finds`).
- `subscribers`: all subscribers of one client: the last request decides which of them has a channel
  (`test_it_goes_from_one_view_to_another_before_and_after_it_begins`).
- `interest` and `masks`: names, patterns and exceptions, and what they come to. An unsubscribe beats an earlier pattern
  (`TestPatterns`); a name may be awaited that nobody knows yet (`test_awaited`).

Imports
=======

At run time there is no circle. For types alone these name what imports them, or each other:

- `channel`, `source`, `flush`, `rebase`, `log` and `lost`: a channel has a source and a log, an entry of a log may be a
  rebase, a rebase and a flush are of channels. They are one state in several files.
- `subscriber`, `subscription`, `views` and `marks` name `Hub`: it makes subscribers, and they ask it.
- `selection` names `Subscriber`, to keep who shares one.
- `interest` names `Start` of `join`: how an awaited channel begins is kept until it does.
"""
