"""Fragments of several collectors: what is linked on arrival, what is counted, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from buffers.fragments import LARGEST_AGENT, Fragment, FragmentLayout, FragmentReader, FragmentWriter
from buffers.rollout import RolloutReader
from buffers.rows import Layout, Writer
from envs.spec import Array
from tests.buffers import buffers_oracle as oracle
from tests.buffers.buffers_oracle import SPEC, Players, Step, dies_at, make_rows

SOURCES = 3


class Host:
    """A collector that is replaced now and then, and what it has sent."""

    def __init__(self, seed: int, capacity: int = 400) -> None:
        self.rng = np.random.default_rng(seed)
        self.capacity = capacity
        self.episodes = 0
        self.replace()

    def replace(self) -> None:
        rows = make_rows(self.capacity, positions=True)
        self.players = Players(rows, agents=7, seed=int(self.rng.integers(1 << 30)))
        self.players.episode += self.episodes
        self.reader = FragmentReader(rows)

    def play(self) -> None:
        for _ in range(self.rng.integers(1, 12)):
            self.players.append()
        self.episodes = int(self.players.episode.max()) // 7 * 7 + 7

    def fragment(self, limit: int = 60) -> tuple[Fragment, list[Step]] | None:
        fragment = self.reader.take(int(self.rng.integers(1, limit)))
        if fragment is None:
            return None
        return fragment, self.players.steps[fragment.first - 1 : fragment.first - 1 + fragment.length]


class Arrived(NamedTuple):
    """What the reference knows of a row in the learner's block."""

    source: int
    step: Step
    stretch: int
    """Rows of one stretch have come one behind another, without a gap."""


class Farm:
    """Hosts whose fragments come to one block, over ways on which some are lost and some come twice."""

    def __init__(self, seed: int, capacity: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.hosts = [Host(seed * 10 + i) for i in range(SOURCES)]
        self.rows = make_rows(capacity)
        self.writer = FragmentWriter(self.rows, SOURCES)
        self.arrived: list[Arrived] = []
        self.stretch = [0] * SOURCES
        self.before: list[tuple[Fragment, list[Step]] | None] = [None] * SOURCES
        self.lost = self.reported = 0

    def turn(self) -> None:
        source = int(self.rng.integers(SOURCES))
        host, chance = self.hosts[source], self.rng.random()
        host.play()
        if chance < 0.02:
            host.replace()
            self.writer.forget_source(source)
            self.stretch[source] += 1
            self.before[source] = None
            return
        sent = host.fragment()
        if sent is None:
            return
        fragment, steps = sent
        if chance < 0.08 and self.before[source]:  # on its way it was lost
            self.lost += fragment.length
            self.stretch[source] += 1
            return
        if chance < 0.15 and (again := self.before[source]) is not None:
            assert self.writer.add(source, again[0]) == 0
        if (
            chance < 0.2
            and (again := self.before[source]) is not None
            and again[0].first + again[0].length == fragment.first
        ):
            self.reported += self.writer.add(source, joined(host.reader.layout, again[0], fragment))
        else:
            self.reported += self.writer.add(source, fragment)
        self.before[source] = sent
        self.arrived += [Arrived(source, step, self.stretch[source]) for step in steps]

    def links(self) -> list[int]:
        """What `next` of all rows has to be, by number from 1 on."""
        numbers = {id(row.step): number for number, row in enumerate(self.arrived, 1)}
        found = []
        for row in self.arrived:
            after = row.step.next
            number = numbers.get(id(after), 0) if after is not None else 0
            if row.step.terminated:
                found.append(0)
            elif number and self.arrived[number - 1].stretch == row.stretch:
                found.append(number)
            else:
                found.append(-1)
        return found


def joined(layout: FragmentLayout, one: Fragment, other: Fragment) -> Fragment:
    ours, theirs = layout.columns(one.length, one.data), layout.columns(other.length, other.data)
    data = b"".join(np.concatenate((ours[name], theirs[name])).tobytes() for name in ours)
    return Fragment(one.first, one.length + other.length, data)


@pytest.mark.parametrize("capacity", [120, 401, 20_000])
@pytest.mark.parametrize("seed", range(4))
def test_rows_of_several_hosts_are_linked_as_their_own_collectors_link_them(seed: int, capacity: int) -> None:
    farm = Farm(seed, capacity)
    for _ in range(600):
        farm.turn()
        rows, known = farm.rows, farm.arrived
        assert rows.head == rows.reserved == len(known)
    assert rows.samples == sum(not row.step.final for row in known)
    numbers = np.arange(max(0, rows.overwritten) + 1, rows.head + 1)
    assert (capacity == 20_000) == (len(numbers) == len(known))
    held = [known[number - 1] for number in numbers]
    links, agent, seen, reward, final = rows.gather(numbers, ("next", "agent", "observation_0", "reward", "final"))
    episode, step = (np.array([getattr(row.step, name) for row in held]) for name in ("episode", "step"))
    assert np.array_equal(seen, oracle.vector(episode, step))
    assert np.array_equal(reward, oracle.reward(episode, step) * ~final)
    assert np.array_equal(agent, [row.step.agent * SOURCES + row.source for row in held])
    assert np.array_equal(links, np.array(farm.links())[numbers - 1])
    assert rows.sampleable_now == np.count_nonzero(links >= 0)
    assert 0 < farm.reported <= farm.lost
    if capacity == 20_000:
        assert rows.sampleable == np.count_nonzero(links >= 0)


def test_every_row_is_learned_from_once() -> None:
    farm = Farm(1, 2000)
    reader, taken = RolloutReader(farm.rows, 40), []
    for _ in range(400):
        farm.turn()
        while rollout := reader.take(0, 100):
            taken += rollout.numbers.tolist()
    assert len(set(taken)) == len(taken) > 1000
    assert len(taken) + reader.dropped + reader.waiting == farm.rows.sampleable
    assert reader.dropped == 0


def test_a_row_whose_episode_was_lost_meanwhile_is_not_linked_to_another_episode_at_the_same_place() -> None:
    host, rows = Host(0), make_rows(100)
    writer = FragmentWriter(rows, 1)
    only, length = np.array([0]), oracle.length(np.arange(1, 100))
    place = int(np.flatnonzero(length > 3)[0])
    host.players.episode[0] = place + 1
    for _ in range(2):
        host.players.append(only)
    assert writer.add(0, host.reader.take(9)) == 0
    host.players.writer.forget(only)
    host.players.step[0], host.players.episode[0] = 0, place + 1
    for _ in range(2):
        host.players.append(only)
    host.reader.take(2)
    host.players.append(only)  # at step 2, as the row would be that follows what has come
    assert writer.add(0, host.reader.take(9)) == 2
    assert rows.fields["next"][1:4].tolist() == [2, -1, -1]


@pytest.mark.parametrize("capacity", [128, 2000])
def test_counters_are_exact_wherever_the_writer_died(capacity: int) -> None:
    places = 0
    for line in range(1, 1000):
        farm = Farm(line, capacity)
        for _ in range(25):
            farm.turn()
        fragment = None
        while fragment is None:
            farm.hosts[0].play()
            fragment = farm.hosts[0].reader.take(50)
        rows, before = farm.rows, farm.rows.samples
        if not dies_at(line, lambda farm=farm, fragment=fragment: farm.writer.add(0, fragment)):
            break
        places += 1
        heir = FragmentWriter(rows, SOURCES)
        links, final = rows.gather(np.arange(max(0, rows.overwritten) + 1, rows.head + 1), ("next", "final"))
        assert rows.head == rows.reserved
        assert rows.sampleable_now == np.count_nonzero(links >= 0)
        assert rows.samples in (before, before + int(np.count_nonzero(columns_of(farm, fragment)["final"] == 0)))
        if capacity > rows.head:
            assert rows.sampleable == np.count_nonzero(links >= 0)
            assert rows.samples == np.count_nonzero(~final)
        assert not (links > rows.head).any()
        heir.add(1, farm.hosts[1].reader.take(9) or fragment)
        (links,) = rows.gather(np.arange(max(0, rows.overwritten) + 1, rows.head + 1), ("next",))
        assert rows.sampleable_now == np.count_nonzero(links >= 0)
    assert places > 40


def columns_of(farm: Farm, fragment: Fragment) -> dict[str, Array]:
    return farm.hosts[0].reader.layout.columns(fragment.length, fragment.data)


def test_what_a_dead_collector_left_half_done_is_left_out() -> None:
    host, rows = Host(3), make_rows(2000)
    writer = FragmentWriter(rows, 1)
    for _ in range(20):
        host.players.append()
    half = host.players.rows
    whole = half.head
    half.header[1] = whole + 5  # reserved
    host.reader.skip(half.head + 1, half.reserved)
    Writer(half)
    heir = Players(half, agents=7, seed=1)
    for _ in range(20):
        heir.append()
    seen = []
    while fragment := host.reader.take(30):
        seen += range(fragment.first, fragment.first + fragment.length)
        writer.add(0, fragment)
    assert seen == [n for n in range(1, half.head + 1) if not whole < n <= whole + 5]
    assert host.reader.waiting == 0
    assert rows.samples == half.samples == sum(not each.final for each in host.players.steps + heir.steps)


def test_a_reader_that_was_overtaken_says_how_many_rows_are_lost() -> None:
    host = Host(2, capacity=60)
    for _ in range(60):
        host.players.append()
    rows = host.players.rows
    fragment = host.reader.take(1000)
    assert fragment.first == host.reader.lost + 1 == rows.overwritten + 1
    assert fragment.first + fragment.length == rows.head + 1
    assert host.reader.waiting == 0


def test_fragments_hold_the_recurrent_state() -> None:
    layout = Layout(SPEC, 3)
    assert {each.name for each in FragmentLayout(replace(layout, positions=True)).fields} >= {"memory", "position"}
    assert layout.fields == replace(layout, positions=True).fields


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"agent": -1}, "agents -1"),
        ({"agent": LARGEST_AGENT + 1}, f"not 0 to {LARGEST_AGENT}"),
        ({"terminated": 1, "truncated": 1}, "several ends"),
        ({"final": 7}, "several ends"),
        ({"position": -1}, "before their episode"),
    ],
)
def test_damaged_rows_are_refused_before_anything_is_written(change: dict[str, int], words: str) -> None:
    host, rows = Host(0), make_rows(100)
    host.play()
    writer, fragment = FragmentWriter(rows, 1), host.reader.take(3)
    for name, value in change.items():
        host.reader.layout.columns(fragment.length, fragment.data)[name][0] = value
    before = bytes(rows.header)
    with pytest.raises(ValueError, match=words):
        writer.add(0, fragment)
    assert bytes(rows.header) == before


@pytest.mark.parametrize(("first", "count", "bytes_"), [(0, 1, None), (1, 101, None), (1, 2, 7), (1, 0, 0), (1, -1, 0)])
def test_fragments_of_another_size_are_refused(first: int, count: int, bytes_: int | None) -> None:
    rows = make_rows(100)
    writer = FragmentWriter(rows, 1)
    size = count * writer.layout.row_bytes if bytes_ is None else bytes_
    with pytest.raises(ValueError, match="rows"):
        writer.add(0, Fragment(first, count, bytes(size)))
    assert rows.head == 0


def test_rows_without_positions_are_not_sent() -> None:
    with pytest.raises(ValueError, match="positions"):
        FragmentReader(make_rows(100))
