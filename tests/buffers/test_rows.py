"""Rows, their layout and their writer."""

import itertools

import numpy as np
import pytest

from buffers.replay import Replay
from buffers.rollout import RolloutReader
from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from tests.buffers import buffers_oracle as oracle
from tests.buffers.buffers_oracle import SPEC, Players, dies_at, make_rows


def next_in_reference(step: oracle.Step) -> int:
    if step.terminated:
        return 0
    return step.next.number if step.next else -1


@pytest.mark.parametrize("capacity", [16, 61, 5000])
def test_every_held_row_says_what_was_appended_and_links_to_its_agents_next(capacity):
    players = Players(make_rows(capacity), agents=12, seed=capacity)
    for _ in range(700):
        players.append()
    rows, steps = players.rows, players.held()
    assert rows.head == rows.reserved == len(players.steps)
    assert (capacity == 5000) == (len(players.steps) < capacity)
    number = np.array([s.number for s in steps])
    episode, step = np.array([s.episode for s in steps]), np.array([s.step for s in steps])
    final = np.array([s.final for s in steps])
    at = dict(zip(rows.fields, rows.gather(number, tuple(rows.fields))))
    assert np.array_equal(at["number"], number)
    assert np.array_equal(at["agent"], [s.agent for s in steps])
    assert np.array_equal(at["observation_0"], oracle.vector(episode, step))
    assert np.array_equal(at["observation_1"], oracle.image(episode, step))
    assert np.array_equal(at["mask"], oracle.mask(episode, step))
    assert np.array_equal(at["continuous"], oracle.continuous(episode, step) * ~final[:, None])
    assert np.array_equal(at["discrete"], oracle.discrete(episode, step) * ~final[:, None])
    assert np.array_equal(at["reward"], oracle.reward(episode, step) * ~final)
    assert np.array_equal(at["log_prob"], -at["reward"])
    assert np.array_equal(at["final"], final)
    assert np.array_equal(at["terminated"], [s.terminated for s in steps])
    assert np.array_equal(at["truncated"], [s.next is not None and s.next.final for s in steps])
    assert np.array_equal(at["next"], [next_in_reference(s) for s in steps])


@pytest.mark.parametrize("capacity", [16, 61, 5000])
def test_counters_count_samples_and_drawable_rows(capacity):
    players = Players(make_rows(capacity), agents=12)
    rows = players.rows
    for _ in range(400):
        players.append()
        assert rows.samples == sum(not s.final for s in players.steps)
        assert rows.sampleable_now == sum(s.sampleable for s in players.held())
    unlinked_before_overwritten = sum(s.sampleable for s in players.steps) - rows.sampleable
    if capacity == 5000:
        assert unlinked_before_overwritten == 0
    assert unlinked_before_overwritten >= 0


def test_empty_memory_is_an_empty_buffer_whose_row_0_absorbs():
    rows = make_rows(20)
    assert (rows.head, rows.sampleable, rows.sampleable_now, rows.samples) == (0, 0, 0, 0)
    players = Players(rows, agents=3)
    for _ in range(60):
        players.append()
    for name, (value,) in zip(rows.fields, rows.gather(np.array([0]), tuple(rows.fields))):
        assert not value.any(), name


def test_a_previous_row_that_was_overwritten_is_not_linked():
    players = Players(make_rows(16), agents=4)
    players.append(np.array([0]))
    assert oracle.length(np.int64(1)) > 1  # agent 0's first episode goes on
    for _ in range(16):
        players.append(np.array([1]))
    before = players.rows.fields["next"].copy()
    players.append(np.array([0]))
    slot = players.rows.slots(np.array([players.rows.head]))
    before[slot] = -1
    assert np.array_equal(players.rows.fields["next"], before)


def append_one(writer: Writer, agent: int, terminated=False):
    no, yes = np.zeros(1, bool), np.ones(1, bool)
    none = (np.zeros((0, 16), np.float32), np.zeros((0, 2, 3, 3), np.uint8))
    writer.append(
        np.array([agent]),
        (np.zeros((1, 16), np.float32), np.zeros((1, 2, 3, 3), np.uint8)),
        np.ones((1, 5), bool),
        np.zeros((1, 2), np.float32),
        np.zeros((1, 2), np.int32),
        np.zeros(1, np.float32),
        3,
        np.zeros(1, np.float32),
        yes if terminated else no,
        no,
        none,
        np.zeros((0, 5), bool),
    )


def test_a_forgotten_agents_last_row_stays_unlinked_for_ever():
    rows = make_rows(50)
    writer = Writer(rows)
    append_one(writer, 7)
    append_one(writer, 900)
    writer.forget(np.array([7, 100_000]))
    append_one(writer, 7)
    append_one(writer, 900)
    assert rows.fields["next"][1:5].tolist() == [-1, 4, -1, -1]


def test_a_terminated_agents_number_starts_afresh():
    rows = make_rows(50)
    writer = Writer(rows)
    append_one(writer, 7, terminated=True)
    append_one(writer, 7)
    assert rows.fields["next"][1:3].tolist() == [0, -1]
    assert rows.sampleable == 1


def test_a_writer_that_loads_state_goes_on_linking():
    rows = make_rows(50)
    writer = Writer(rows)
    append_one(writer, 70)
    other = Writer(rows)
    other.load_state(writer.state())
    append_one(other, 70)
    assert rows.fields["next"][1] == 2


@pytest.mark.parametrize("place", ["_link", "_append_final", "_span"])
def test_a_new_writer_goes_on_where_another_died_in_an_append(place, monkeypatch):
    players = Players(make_rows(64), agents=12)
    for _ in range(60):
        players.append()
    rows = players.rows

    def die(*_):
        raise SystemExit

    monkeypatch.setattr(players.writer, place, die)
    with pytest.raises(SystemExit):
        play_on(players)
    unfinished = np.arange(rows.head + 1, rows.reserved + 1)
    held = [s for s in players.held() if s.number > rows.overwritten]
    writer = Writer(rows)
    assert rows.head == rows.reserved == unfinished[-1]
    links, final = rows.gather(unfinished, ("next", "final"))
    assert (links == -1).all()
    assert final.all()
    vector, links = rows.gather(np.array([s.number for s in held]), ("observation_0", "next"))
    episode, step = np.array([s.episode for s in held]), np.array([s.step for s in held])
    assert np.array_equal(vector, oracle.vector(episode, step))
    finished = ~np.isin(links, unfinished)
    assert links[finished].tolist() == [next_in_reference(s) for s, whole in zip(held, finished) if whole]
    sequence = Replay(rows).draw(np.random.default_rng(0), 500, 3)
    assert not np.isin(sequence.numbers[:, :3][sequence.valid], unfinished).any()
    append_one(writer, 3)
    append_one(writer, 3)
    assert rows.gather(np.array([rows.head - 1]), ("next",))[0] == rows.head


@pytest.mark.parametrize("capacity", [64, 2000])
def test_counters_are_exact_wherever_the_writer_died_and_no_row_is_drained_twice(capacity):
    places = 0
    for line in itertools.count(1):
        players = Players(make_rows(capacity), agents=12, seed=line)
        rows, reader = players.rows, RolloutReader(players.rows, 20)
        for _ in range(60):
            players.append()
        taken = take_all(reader)
        if not dies_at(line, players.append):
            break  # an append has no more lines than that
        places += 1
        numbers = take_all(reader)
        heir = Players(rows, agents=12, seed=line)
        links, final = rows.gather(held(rows), ("next", "final"))
        assert rows.head == rows.reserved
        assert rows.sampleable_now == np.count_nonzero(links >= 0)
        if capacity > rows.head:
            assert rows.sampleable == np.count_nonzero(links >= 0)
            assert rows.samples == np.count_nonzero(~final)
        for _ in range(60):
            heir.append()
            numbers += take_all(reader)
        assert len(set(taken + numbers)) == len(taken + numbers)
        assert reader.waiting < 20
        (links,) = rows.gather(held(rows), ("next",))
        assert rows.sampleable_now == np.count_nonzero(links >= 0)
    assert places > 40


def held(rows):
    return np.arange(max(0, rows.head - rows.capacity) + 1, rows.head + 1)


def take_all(reader):
    numbers = []
    while rollout := reader.take(0, 100):
        numbers += rollout.numbers.tolist()
    return numbers


def play_on(players):
    while True:
        players.append()


def test_an_append_of_nothing_changes_nothing():
    rows = make_rows(20)
    writer = Writer(rows)
    append_one(writer, 1)
    before = rows.header.copy()
    none = np.zeros(0, np.int64)
    observations = (np.zeros((0, 16), np.float32), np.zeros((0, 2, 3, 3), np.uint8))
    empty = np.zeros((0, 5), bool)
    nothing = none.astype(bool)
    actions = np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int32)
    writer.append(none, observations, empty, *actions, none, 0, none, nothing, nothing, observations, empty)
    assert np.array_equal(rows.header, before)


def test_layout_counts_bytes_and_capacity_fits():
    layout = Layout(BehaviorSpec("x", (ObservationSpec("picture", (84, 84, 3), "uint8"),), branches=(4,)))
    assert layout.row_bytes == 84 * 84 * 3 + 4 + 4 + 8 + 8 + 4 + 3 + 8 + 8
    for memory in (2**20, 2**20 + 17, 10**8):
        capacity = layout.capacity(memory)
        assert layout.memory_bytes(capacity) <= memory < layout.memory_bytes(capacity + 2)
        Rows(layout, np.zeros(memory, np.uint8), capacity)


def test_memory_is_stored_before_each_step_and_after_the_last_of_an_episode_cut_off():
    layout = Layout(BehaviorSpec("x", (ObservationSpec("v", (1,), "float32"),)), 2)
    rows = Rows(layout, bytearray(layout.memory_bytes(20)), 20)
    one, no = np.ones((2, 1), np.float32), np.zeros((2, 0), bool)
    cut = np.array([False, True])
    Writer(rows).append(
        np.arange(2), (one,), no, no, no, one[:, 0], 0, one[:, 0], ~cut & False, cut, (one[:1],), no[:1],
        np.array([[1, 2], [3, 4]]), np.array([0, 7]), np.array([[5, 6]]),
    )  # fmt: skip
    assert rows.fields["memory"][1:4].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert rows.fields["position"][1:4].tolist() == [0, 7, 0]


def test_memory_too_small_for_any_row_is_refused_with_the_least_that_would_do():
    layout = Layout(SPEC)
    with pytest.raises(UserError, match=r"9.54e-06 MiB are too few .*'oracle'.*MiB at the very least"):
        layout.capacity(10)
    with pytest.raises(ValueError, match="bytes"):
        Rows(layout, bytearray(100), 50)
