"""Draws, sequences and n-step returns."""

import numpy as np
import pytest

from buffers.replay import Replay
from tests.buffers import buffers_oracle as oracle
from tests.buffers.buffers_oracle import Players, Step, make_rows


def reference(step: Step, steps: int, discount: float) -> tuple[list[Step], float, float, Step | None]:
    """Rows walked, return, bootstrap discount and bootstrap row, one step at a time."""
    walked, total, weight = [], 0.0, 1.0
    current: Step | None = step
    while current is not None and len(walked) < steps and current.sampleable:
        walked.append(current)
        total += weight * float(oracle.reward(np.int64(current.episode), np.int64(current.step)))
        weight *= discount
        current = None if current.terminated else current.next
    return walked, total, weight if current else 0.0, current


@pytest.mark.parametrize("capacity", [64, 700, 9000])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_samples_equal_a_plain_reference_over_cut_ended_lost_and_open_episodes(capacity, steps):
    players = Players(make_rows(capacity), agents=20, seed=steps)
    for _ in range(600):
        players.append()
    replay, rng = Replay(players.rows), np.random.default_rng(0)
    ends = set()
    for _ in range(4):
        batch = replay.sample(rng, 500, steps, 0.9)
        for i, number in enumerate(batch.numbers[:, 0].tolist()):
            start = players.steps[number - 1]
            assert start.sampleable
            walked, total, discount, bootstrap = reference(start, steps, 0.9)
            k = len(walked)
            ends.add((bootstrap is None, bootstrap is not None and bootstrap.final, k < steps))
            assert batch.valid[i].tolist() == [True] * k + [False] * (steps - k)
            assert batch.numbers[i, :k].tolist() == [s.number for s in walked]
            assert batch.rewards[i] @ 0.9 ** np.arange(steps) == pytest.approx(total, abs=1e-4)
            assert batch.bootstrap_discount[i, 0] == pytest.approx(discount, abs=1e-6)
            assert batch.numbers[i, steps] == (bootstrap.number if bootstrap else 0)
            assert batch.rewards[i, :k].tolist() == [
                float(oracle.reward(np.int64(s.episode), np.int64(s.step))) for s in walked
            ]
            assert not batch.rewards[i, k:].any()
        check_content(players, batch)
    if capacity > 64:
        assert {(True, False, False), (False, True, False), (False, False, False)} <= ends
    if steps > 1:  # sequences that end early: terminated, truncated, and not linked
        assert {(True, False, True), (False, True, True), (False, False, True)} <= ends


def check_content(players, batch):
    starts = [players.steps[n - 1] for n in batch.numbers[:, 0].tolist()]
    episode, step = np.array([s.episode for s in starts]), np.array([s.step for s in starts])
    assert np.array_equal(batch.observations[0][:, 0], oracle.vector(episode, step))
    assert np.array_equal(batch.observations[1][:, 0], oracle.image(episode, step))
    assert np.array_equal(batch.mask[:, 0], oracle.mask(episode, step))
    assert np.array_equal(batch.continuous[:, 0], oracle.continuous(episode, step))
    assert np.array_equal(batch.discrete[:, 0], oracle.discrete(episode, step))
    assert batch.learned.all()
    assert (batch.bootstrap == 1).all()
    bootstrap = batch.numbers[:, -1]
    goes_on = bootstrap > 0
    after = [players.steps[n - 1] for n in bootstrap[goes_on].tolist()]
    episode, step = np.array([s.episode for s in after]), np.array([s.step for s in after])
    assert np.array_equal(batch.observations[0][goes_on, 1], oracle.vector(episode, step))
    assert np.array_equal(batch.observations[1][goes_on, 1], oracle.image(episode, step))
    assert np.array_equal(batch.mask[goes_on, 1], oracle.mask(episode, step))
    for array in (*batch.observations, batch.mask):
        assert not array[~goes_on, 1].any()


def test_every_drawable_row_outside_the_guard_zone_is_drawn_equally_often():
    players = Players(make_rows(160), agents=8)
    for _ in range(300):
        players.append()
    oldest = players.rows.overwritten + players.rows.guard + 1
    wanted = [s.number for s in players.held() if s.sampleable and s.number >= oldest]
    sequence = Replay(players.rows).draw(np.random.default_rng(1), 200 * len(wanted), 1)
    numbers, counts = np.unique(sequence.numbers[:, 0], return_counts=True)
    assert numbers.tolist() == wanted
    assert 120 < counts.min() <= counts.max() < 280  # 200 +- 5.7 standard deviations


def test_a_rare_drawable_row_is_found_among_many_that_are_not():
    players = Players(make_rows(1000), agents=500)
    players.append(np.arange(500))
    replay, rng = Replay(players.rows), np.random.default_rng(0)
    wanted = [s.number for s in players.steps if s.sampleable]
    assert 0 < len(wanted) < 100
    assert set(replay.draw(rng, 2000, 2).numbers[:, 0].tolist()) == set(wanted)


def test_the_same_generator_state_and_rows_give_the_same_batch():
    players = Players(make_rows(300), agents=8)
    for _ in range(100):
        players.append()
    first, second = (Replay(players.rows).sample(np.random.default_rng(7), 64, 3, 0.99) for _ in range(2))
    assert np.array_equal(first.numbers, second.numbers)
    assert np.array_equal(first.rewards, second.rewards)


def test_a_row_overwritten_while_it_is_gathered_is_drawn_again(monkeypatch):
    players = Players(make_rows(64), agents=8)
    for _ in range(60):
        players.append()
    rows, take = players.rows, players.rows.at
    calls = []

    def take_while_the_writer_goes_on(slots, names):
        taken = take(slots, names)
        calls.append(len(slots))
        if len(calls) <= 6:  # three times a draw: the first two draws are disturbed
            for _ in range(3):
                players.append()
        return taken

    monkeypatch.setattr(rows, "at", take_while_the_writer_goes_on)
    monkeypatch.setattr(rows, "guard", 0)
    batch = Replay(rows).sample(np.random.default_rng(0), 400, 3, 0.9)
    assert len(calls) == 9
    assert 0 < calls[6] < calls[3] < 400
    check_content(players, batch)


def test_a_walk_that_met_an_open_row_does_not_go_on_when_the_link_appears(monkeypatch):
    players = Players(make_rows(64), agents=1)
    while not (
        len(players.steps) > 1 and players.steps[-2].next is players.steps[-1] and not players.steps[-1].sampleable
    ):
        players.append()
    newest = players.rows.head
    slots = players.rows.slots
    looks = []

    def slots_while_the_writer_goes_on(numbers):
        looks.append(numbers)
        if len(looks) == 4:  # the draw's rejection looks at the starts first
            players.append()
        return slots(numbers)

    monkeypatch.setattr(players.rows, "slots", slots_while_the_writer_goes_on)
    monkeypatch.setattr(Replay, "_starts", lambda self, rng, batch: np.full(batch, newest - 1))
    sequence = Replay(players.rows).draw(np.random.default_rng(0), 3, 6)
    assert players.steps[newest - 1].next is not None
    assert sequence.valid.tolist() == [[True] + [False] * 5] * 3
    assert sequence.numbers[:, -1].tolist() == [newest] * 3


def test_drawing_from_nothing_drawable_is_an_error():
    players = Players(make_rows(64), agents=1)
    replay, rng = Replay(players.rows), np.random.default_rng(0)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(rng, 4, 1, 0.9)
    players.append()
    assert players.rows.sampleable_now == 0
    with pytest.raises(ValueError, match="none of rows 1 to 1"):
        replay.sample(rng, 4, 1, 0.9)


def test_gather_returns_all_fields_by_name_in_the_shape_of_the_numbers():
    players = Players(make_rows(64), agents=2)
    for _ in range(9):
        players.append()
    numbers = np.array([[1, 2], [3, 0]])
    names = tuple(players.rows.fields)
    gathered = dict(zip(names, players.rows.gather(numbers, names)))
    assert gathered["number"].tolist() == numbers.tolist()
    assert gathered["observation_1"].shape == (2, 2, 2, 3, 3)
