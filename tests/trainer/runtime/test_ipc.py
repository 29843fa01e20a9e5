from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

import trainer.runtime.ipc
from envs.spec import UserError
from trainer.runtime.ipc import OPEN, SAMPLES, SPAWN, TO_COLLECTOR, Link, Message, Shared, link_pair

MIB = 2**20


def resident() -> int:
    """Bytes of shared memory that this process has touched."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssShmem"))


def claims(shared: Shared, results) -> None:
    place = shared.claim("late")
    shared.arena("late")[:3] = b"abc"
    shared.counters("late")[SAMPLES] = 7
    results.put((place, shared.claim("known")))


def test_what_the_collector_claims_is_the_learners_too_once_it_knows() -> None:
    shared, results = Shared({"known": MIB}, 8, MIB), SPAWN.SimpleQueue()
    process = SPAWN.Process(target=claims, args=(shared, results))
    process.start()
    process.join()
    assert process.exitcode == 0
    place, known = results.get()
    assert (place, known) == (1, 0)
    shared.assign("late", place)
    assert bytes(shared.arena("late")[:4]) == b"abc\0"
    assert shared.counters("late")[SAMPLES] == 7
    assert shared.samples == 7
    assert shared.claim("later") == 2


def test_arenas_do_not_overlap_and_have_the_size_of_their_entry() -> None:
    shared = Shared({"a": 1000, "b": 5000}, 1, 3000)
    shared.claim("c")
    for value, name in enumerate("abc", 1):
        np.frombuffer(shared.arena(name), np.uint8)[:] = value
        shared.counters(name)[:] = value
    assert [len(shared.arena(name)) for name in "abc"] == [1000, 5000, 3000]
    assert [set(shared.arena(name)) for name in "abc"] == [{1}, {2}, {3}]
    assert shared.samples == 6


def test_counts_of_instances_and_of_behaviors_lie_apart() -> None:
    shared = Shared({"a": 1000}, 1, 1000, instances=3)
    shared.claim("b")
    shared.begun[:] = [5, 6, 7]
    shared.counters("a")[OPEN], shared.counters("b")[OPEN] = 2, 3
    shared.counters("b")[SAMPLES] = 4
    assert (shared.open_rows, shared.samples, shared.begun.tolist()) == (5, 4, [5, 6, 7])


def test_what_a_side_has_sent_before_it_died_is_received_and_a_new_link_begins_anew() -> None:
    shared = Shared({"a": 1000})
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
    shared = Shared({"a": 1000})
    link, ends = link_pair(shared)
    other = Link(*ends, shared, TO_COLLECTOR)
    other.send("events", content=1)
    shared.flags[0] += 1
    assert [message.content for message in link.receive()] == [1]
    assert link.receive() == []
    ends[0].send(Message("events", "", 2))
    assert [message.content for message in link.receive()] == [2]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_spare_arenas_take_no_memory_before_they_are_claimed() -> None:
    before = resident()
    shared = Shared({"known": 4 * MIB}, 8, 64 * MIB)
    assert 4 * MIB <= resident() - before < 8 * MIB
    shared.claim("late")
    assert 68 * MIB <= resident() - before < 72 * MIB


def test_one_behavior_too_many_is_refused_by_name() -> None:
    shared = Shared({}, 2, 100)
    shared.claim("a")
    shared.claim("b")
    assert shared.claim("a") == 0
    with pytest.raises(UserError, match=r"behavior 'c' is one too many: with 'a', 'b' there are 2"):
        shared.claim("c")


def test_a_spare_arena_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared({}, 2, 100)

    def refuse(wanted):
        raise UserError(f"too much: {wanted}")

    monkeypatch.setattr(trainer.runtime.ipc, "reckon", refuse)
    with pytest.raises(UserError, match=r"too much: .*the buffer of behavior 'a'.*, 100"):
        shared.claim("a")


@pytest.mark.skipif(not hasattr(os, "fstatvfs"), reason="Windows")
def test_a_spare_arena_that_shared_memory_has_no_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Shared({}, 2, 3 * MIB)
    monkeypatch.setattr(os, "fstatvfs", lambda fd: SimpleNamespace(f_bavail=512, f_frsize=4096))
    with pytest.raises(UserError, match=r"behavior 'a' needs 3 MiB .* but 2 MiB of shared memory are left"):
        shared.claim("a")
