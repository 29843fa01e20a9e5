"""Rollouts: what they take, how they group it, what they drop."""

import numpy as np
import pytest

from buffers.rollout import RolloutReader
from tests.buffers import buffers_oracle as oracle
from tests.buffers.buffers_oracle import Players, Step, make_rows


class Reference:
    """A rollout over the oracle's steps in plain Python: no overwriting, no limit on age."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken: set[int] = set()

    def take(self, steps: list[Step]) -> list[list[Step]] | None:
        waiting = [s for s in steps if s.sampleable and s.number not in self.taken]
        if len(waiting) < self.size:
            return None
        chosen = waiting[: self.size]
        self.taken |= {s.number for s in chosen}
        segments: list[list[Step]] = []
        open_segments: dict[int, list[Step]] = {}
        for step in chosen:
            segment = open_segments.get(step.agent)
            if segment and segment[-1].next is step:
                segment.append(step)
            else:
                open_segments[step.agent] = [step]
                segments.append(open_segments[step.agent])
        return sorted(segments, key=lambda segment: (segment[0].agent, segment[0].number))


@pytest.mark.parametrize(("agents", "size"), [(16, 64), (5, 300), (40, 32)])
def test_rollouts_equal_a_plain_reference_and_deliver_every_row_once(agents, size):
    players = Players(make_rows(20_000), agents=agents, seed=agents)
    reader, plain = RolloutReader(players.rows, size), Reference(size)
    rollouts = 0
    for _ in range(700):
        players.append()
        assert reader.waiting == sum(s.sampleable for s in players.steps) - rollouts * size
        if players.rng.random() < 0.3:
            rollout, segments = reader.take(0, 0), plain.take(players.steps)
            assert (rollout is None) == (segments is None)
            if rollout is not None:
                rollouts += 1
                check(rollout, segments, players)
    assert rollouts > 5
    assert reader.dropped == 0


def check(rollout, segments, players):
    flat = [step for segment in segments for step in segment]
    assert rollout.numbers.tolist() == [s.number for s in flat]
    assert rollout.ends.tolist() == (np.cumsum([len(s) for s in segments]) - 1).tolist()
    episode, step = np.array([s.episode for s in flat]), np.array([s.step for s in flat])
    assert np.array_equal(rollout.observations[0], oracle.vector(episode, step))
    assert np.array_equal(rollout.observations[1], oracle.image(episode, step))
    assert np.array_equal(rollout.mask, oracle.mask(episode, step))
    assert np.array_equal(rollout.continuous, oracle.continuous(episode, step))
    assert np.array_equal(rollout.discrete, oracle.discrete(episode, step))
    assert np.array_equal(rollout.rewards, oracle.reward(episode, step))
    assert np.array_equal(rollout.log_prob, -rollout.rewards)
    assert rollout.terminated.tolist() == [s.terminated for s in flat]
    agent, truncated = players.rows.gather(rollout.numbers, ("agent", "truncated"))
    assert agent.tolist() == [s.agent for s in flat]
    assert truncated.tolist() == [s.next is not None and s.next.final for s in flat]
    lasts = [segment[-1] for segment in segments]
    assert rollout.bootstrapped.tolist() == [not s.terminated for s in lasts]
    after = [s.next for s in lasts if s.next]
    episode, step = np.array([s.episode for s in after]), np.array([s.step for s in after])
    assert np.array_equal(rollout.bootstrap_observations[0][rollout.bootstrapped], oracle.vector(episode, step))
    assert np.array_equal(rollout.bootstrap_observations[1][rollout.bootstrapped], oracle.image(episode, step))
    assert not rollout.bootstrap_observations[0][~rollout.bootstrapped].any()


def play(players, appends, version):
    players.version = version
    for _ in range(appends):
        players.append(np.arange(players.agents))


def test_open_rows_are_the_first_of_their_agents_next_segment():
    players = Players(make_rows(2000), agents=3)
    play(players, 3, 0)
    open_rows = {s.agent: s for s in players.steps if not s.sampleable and not s.final}
    assert open_rows
    reader = RolloutReader(players.rows, players.rows.sampleable)
    first = reader.take(0, 0)
    play(players, 4, 0)
    reader.size = reader.waiting
    second = reader.take(0, 0)
    (agents,) = players.rows.gather(second.numbers, ("agent",))
    for agent, row in open_rows.items():
        if row.sampleable:
            assert row.number not in first.numbers
            assert second.numbers[agents == agent][0] == row.number
    assert any(row.sampleable for row in open_rows.values())


@pytest.mark.parametrize("max_lag", [0, 2])
def test_rows_older_than_max_lag_are_dropped_counted_and_replaced_by_newer(max_lag):
    players = Players(make_rows(5000), agents=6)
    play(players, 30, 0)
    old = [s for s in players.steps if not s.final]
    play(players, 40, max_lag + 1)
    reader = RolloutReader(players.rows, 60)
    # A row is of the version that was there when its decision was made, one append earlier.
    stale = {s.number for s in players.steps if s.sampleable and not s.final and s.version == 0}
    assert len(stale) > len(old) - 6
    rollout = reader.take(max_lag + 1, max_lag)
    assert len(rollout.numbers) == 60
    assert (rollout.versions == max_lag + 1).all()
    assert reader.dropped == len(stale)
    assert reader.waiting == sum(s.sampleable for s in players.steps) - len(stale) - 60
    assert rollout.numbers.tolist() == sorted_by_agent(
        [s for s in players.steps if s.sampleable and s.number not in stale][:60]
    )


def sorted_by_agent(steps):
    return [s.number for s in sorted(steps, key=lambda s: (s.agent, s.number))]


def test_a_row_that_was_open_at_the_last_drain_may_be_one_version_older():
    players = Players(make_rows(5000), agents=6)
    play(players, 20, 0)
    reader = RolloutReader(players.rows, players.rows.sampleable)
    assert reader.take(0, 0) is not None
    carried = {s.number for s in players.steps if not s.sampleable and not s.final}
    players.acted[:] = 1  # the games stood still during the update
    play(players, 10, 1)
    carried = {n for n in carried if players.steps[n - 1].sampleable}
    reader.size = 20
    rollout = reader.take(1, 0)
    assert len(carried) > 1
    assert set(rollout.numbers[rollout.versions == 0].tolist()) == carried
    assert reader.dropped == 0


def test_a_carried_row_two_versions_older_is_dropped():
    players = Players(make_rows(5000), agents=6)
    play(players, 20, 0)
    reader = RolloutReader(players.rows, players.rows.sampleable)
    reader.take(0, 0)
    carried = {s.number for s in players.steps if not s.sampleable and not s.final}
    play(players, 10, 2)
    reader.size = 20
    rollout = reader.take(2, 0)
    assert (rollout.versions == 2).all()
    assert reader.dropped >= len([n for n in carried if players.steps[n - 1].sampleable]) > 0


def test_a_complete_row_left_over_at_the_last_drain_may_be_one_version_older():
    players = Players(make_rows(5000), agents=6)
    play(players, 20, 0)
    reader = RolloutReader(players.rows, 20)
    reader.take(0, 0)
    left = reader.waiting
    assert left > 20
    assert reader.take(1, 0).versions.tolist() == [0] * 20
    assert reader.dropped == 0
    assert reader.take(2, 0) is None
    assert reader.dropped == left - 20


def test_dropping_leaves_too_few_rows_and_the_fresh_ones_wait():
    players = Players(make_rows(5000), agents=6)
    play(players, 20, 0)
    play(players, 10, 5)
    fresh = [s for s in players.steps if s.sampleable and s.version == 5]
    stale = [s for s in players.steps if s.sampleable and s.version == 0]
    reader = RolloutReader(players.rows, 60)
    assert len(fresh) < 60 <= reader.waiting
    assert reader.take(5, 1) is None
    assert reader.dropped == len(stale)
    assert reader.waiting == len(fresh)
    play(players, 20, 5)
    rollout = reader.take(5, 1)
    assert rollout.numbers.tolist() == sorted_by_agent(
        [s for s in players.steps if s.sampleable and s.version == 5][:60]
    )


def test_rows_overwritten_before_they_were_drained_are_counted_as_dropped():
    players = Players(make_rows(200), agents=8)
    reader = RolloutReader(players.rows, 50)
    taken = []
    for i in range(60):
        for _ in range(int(players.rng.integers(1, 120))):
            players.append()
        while (rollout := reader.take(0, 0)) is not None:
            taken += rollout.numbers.tolist()
            episode, step = (
                np.array([getattr(players.steps[n - 1], k) for n in rollout.numbers]) for k in ("episode", "step")
            )
            assert np.array_equal(rollout.observations[0], oracle.vector(episode, step))
        assert len(taken) + reader.dropped + reader.waiting == players.rows.sampleable
        held = {s.number for s in players.held() if s.sampleable} - set(taken)
        assert reader.waiting == len(held)
        assert i < 3 or reader.dropped > 0
    assert len(taken) == len(set(taken))


def test_rows_overwritten_during_the_gather_are_dropped_not_delivered(monkeypatch):
    players = Players(make_rows(200), agents=8)
    while players.rows.head < 200:
        players.append()
    reader = RolloutReader(players.rows, 50)
    gather, disturbed = players.rows.gather, []

    def gather_while_the_writer_goes_on(numbers, names):
        gathered = gather(numbers, names)
        if "reward" in names and not disturbed:
            disturbed.append(players.rows.head)
            for _ in range(10):
                players.append()
        return gathered

    monkeypatch.setattr(players.rows, "gather", gather_while_the_writer_goes_on)
    rollout = reader.take(0, 0)
    assert disturbed
    assert rollout.numbers.min() > players.rows.overwritten
    assert reader.dropped > 0
    assert 50 + reader.dropped + reader.waiting == players.rows.sampleable


def test_a_rollout_that_loads_state_goes_on_as_the_one_that_saved_it():
    players = Players(make_rows(5000), agents=8)
    first = RolloutReader(players.rows, 64)
    for i in range(400):
        players.version = i // 50
        players.append()
        first.take(players.version, 1)
    second = RolloutReader(players.rows, 64)
    second.load_state(first.state())
    assert (second.waiting, second.dropped) == (first.waiting, first.dropped)
    compared = 0
    for i in range(400, 700):
        players.version = i // 50
        players.append()
        one, other = first.take(players.version, 1), second.take(players.version, 1)
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            compared += 1
            assert one.numbers.tolist() == other.numbers.tolist()
    assert compared > 3
    assert first.dropped == second.dropped
