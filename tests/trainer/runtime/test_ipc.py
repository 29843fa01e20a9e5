from __future__ import annotations

import pytest

from envs.spec import UserError
from trainer.runtime.ipc import OPEN, SAMPLES, SPAWN, TO_COLLECTOR, Link, Message, Shared, link_pair


def claims(shared: Shared, results) -> None:
    place = shared.claim("late")
    shared.arena("late", 1000)[:3] = b"abc"
    shared.counters("late")[SAMPLES] = 7
    results.put((place, shared.claim("known")))


def test_what_the_collector_claims_is_the_learners_too_once_it_knows() -> None:
    shared, results = Shared(["known"], 8), SPAWN.SimpleQueue()
    process = SPAWN.Process(target=claims, args=(shared, results))
    process.start()
    process.join()
    assert process.exitcode == 0
    place, known = results.get()
    assert (place, known) == (1, 0)
    shared.assign("late", place)
    assert bytes(shared.arena("late", 1000)[:4]) == b"abc\0"
    assert shared.counters("late")[SAMPLES] == 7
    assert shared.samples == 7
    assert shared.claim("later") == 2


def test_counts_of_instances_and_of_behaviors_lie_apart() -> None:
    shared = Shared(["a"], 1, instances=3)
    shared.claim("b")
    shared.begun[:] = [5, 6, 7]
    shared.counters("a")[OPEN], shared.counters("b")[OPEN] = 2, 3
    shared.counters("b")[SAMPLES] = 4
    assert (shared.open_rows, shared.samples, shared.begun.tolist()) == (5, 4, [5, 6, 7])


def test_what_a_side_has_sent_before_it_died_is_received_and_a_new_link_begins_anew() -> None:
    shared = Shared(["a"])
    link, ends = link_pair(shared)
    other = Link(*ends, shared, TO_COLLECTOR)
    for number in range(3):
        other.send("events", content=number)
    shared.flags[0] += 1  # it dies while it sends a fourth
    other.close()
    assert [message.content for message in link.receive()] == [0, 1, 2]
    with pytest.raises((EOFError, OSError)):
        link.receive()
    link.close()
    link, ends = link_pair(shared)
    other = Link(*ends, shared, TO_COLLECTOR)
    assert not link.pending
    other.send("events", content=4)
    assert [message.content for message in link.receive()] == [4]


def test_a_side_that_is_stopped_between_count_and_message_holds_up_nobody() -> None:
    shared = Shared(["a"])
    link, ends = link_pair(shared)
    other = Link(*ends, shared, TO_COLLECTOR)
    other.send("events", content=1)
    shared.flags[0] += 1
    assert [message.content for message in link.receive()] == [1]
    assert link.receive() == []
    ends[0].send(Message("events", "", 2))
    assert [message.content for message in link.receive()] == [2]


def test_one_behavior_too_many_is_refused_by_name() -> None:
    shared = Shared([], 2)
    shared.claim("a")
    shared.claim("b")
    assert shared.claim("a") == 0
    with pytest.raises(UserError, match=r"behavior 'c' is one too many: with 'a', 'b' there are 2"):
        shared.claim("c")
