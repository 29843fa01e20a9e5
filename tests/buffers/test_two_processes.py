"""Writer and reader at full speed in two processes: nothing torn, nothing mislinked.

Everything in a row follows from its episode and step, which are its first two numbers: see `buffers_oracle`.
"""

import multiprocessing
from itertools import pairwise

import numpy as np
import pytest

from buffers.replay import Replay
from buffers.rollout import RolloutReader
from buffers.rows import Layout, Rows
from buffers.snapshot import Snapshot, restore
from tests.buffers import buffers_oracle as oracle
from tests.buffers.buffers_oracle import SPEC, Players

CAPACITY = 256
LAPS = 80


def write(memory, stop):
    """Append without a pause until told to stop."""
    players = Players(Rows(Layout(SPEC), memory, CAPACITY), agents=24, record=False)
    while not stop[0]:
        players.append()


@pytest.fixture
def rows():
    """Rows that another process writes."""
    spawn = multiprocessing.get_context("spawn")
    memory = spawn.RawArray("B", Layout(SPEC).memory_bytes(CAPACITY))
    stop = spawn.RawArray("B", 1)
    writer = spawn.Process(target=write, args=(memory, stop), daemon=True)
    writer.start()
    shared = Rows(Layout(SPEC), memory, CAPACITY)
    while shared.head < CAPACITY:
        assert writer.is_alive()
    yield shared
    stop[0] = 1
    writer.join(200)
    assert writer.exitcode == 0
    assert shared.head == shared.reserved


def identify(observations):
    """(episode, step) of rows, checked against all else that was observed."""
    episode, step = observations[0][:, 0].astype(np.int64), observations[0][:, 1].astype(np.int64)
    assert np.array_equal(observations[0], oracle.vector(episode, step))
    assert np.array_equal(observations[1], oracle.image(episode, step))
    return episode, step


def test_replay_finds_no_torn_or_mislinked_row(rows):
    rows.guard = 0  # meet the writer as often as can be
    replay, rng, n = Replay(rows), np.random.default_rng(0), 4
    attempts = []
    attempt = replay._attempt
    replay._attempt = lambda *args: attempts.append(args[1]) or attempt(*args)
    batches = 0
    while rows.head < LAPS * CAPACITY or len(attempts) - batches < 50 or batches < 50:
        batch = replay.sample(rng, 256, n, 0.5)
        batches += 1
        episode, step = identify([o[:, 0] for o in batch.observations])
        assert np.array_equal(batch.mask[:, 0], oracle.mask(episode, step))
        assert np.array_equal(batch.continuous[:, 0], oracle.continuous(episode, step))
        assert np.array_equal(batch.discrete[:, 0], oracle.discrete(episode, step))
        taken = batch.valid.sum(axis=1)
        steps = step[:, None] + np.arange(n)
        rewards = oracle.reward(episode[:, None], steps) * batch.valid
        assert np.array_equal(batch.rewards, rewards)
        goes_on = batch.numbers[:, -1] > 0
        ended = (step + taken == oracle.length(episode)) & (oracle.end(episode) == oracle.TERMINATED)
        assert np.array_equal(ended, ~goes_on)
        assert np.array_equal(batch.bootstrap_discount[:, 0], np.where(goes_on, 0.5**taken, 0))
        after = identify([o[goes_on, 1] for o in batch.observations])
        assert np.array_equal(after[0], episode[goes_on])
        assert np.array_equal(after[1], (step + taken)[goes_on])


def test_rollouts_deliver_each_row_once_whole_and_in_order_of_time(rows):
    reader, numbers = RolloutReader(rows, 60), []
    while rows.head < LAPS * CAPACITY or len(numbers) < 50 or not reader.dropped:
        rollout = reader.take(0, 0)
        if rollout is None:
            continue
        numbers.append(rollout.numbers)
        episode, step = identify(rollout.observations)
        assert np.array_equal(rollout.rewards, oracle.reward(episode, step))
        assert np.array_equal(rollout.log_prob, -rollout.rewards)
        last = step == oracle.length(episode) - 1
        assert np.array_equal(rollout.terminated, last & (oracle.end(episode) == oracle.TERMINATED))
        starts = np.concatenate(([0], rollout.ends[:-1] + 1))
        inner = np.setdiff1d(np.arange(60), starts)
        assert np.array_equal(episode[inner], episode[inner - 1])
        assert np.array_equal(step[inner], step[inner - 1] + 1)
        goes_on = rollout.bootstrapped
        after = identify([o[goes_on] for o in rollout.bootstrap_observations])
        assert np.array_equal(after[0], episode[rollout.ends[goes_on]])
        assert np.array_equal(after[1], step[rollout.ends[goes_on]] + 1)
    delivered = np.concatenate(numbers)
    assert len(np.unique(delivered)) == len(delivered)


def test_snapshots_hold_whole_and_rightly_linked_rows(rows, monkeypatch):
    monkeypatch.setattr("buffers.snapshot.CHUNK_BYTES", 32 * rows.layout.row_bytes)
    restored = saves = 0
    while saves < 200 or restored < 1000:
        saves += 1
        saved = Snapshot(rows)
        chunks = list(saved.chunks())
        other = Rows(rows.layout, bytearray(rows.layout.memory_bytes(CAPACITY)), CAPACITY)
        index = saved.index()
        restore(other, index, chunks)
        numbers = np.arange(index["oldest"], other.head + 1)
        vector, image, number, links = other.gather(numbers, ("observation_0", "observation_1", "number", "next"))
        assert np.array_equal(number, numbers)
        episode, step = identify([vector, image])
        linked = np.flatnonzero(links > 0)
        following = links[linked] - numbers[0] if len(numbers) else linked
        assert np.array_equal(episode[following], episode[linked])
        assert np.array_equal(step[following], step[linked] + 1)
        restored += len(linked)


def test_counters_seen_by_a_reader_never_go_back(rows):
    seen: list[tuple[int, int, int]] = []
    while len(seen) < 20_000 or seen[-1][1] == seen[0][1]:  # until the writer has had its turn
        seen.append((rows.sampleable, rows.head, rows.reserved))
    for before, after in pairwise(seen):
        assert all(b <= a for b, a in zip(before, after))
    assert all(sampleable <= head <= reserved for sampleable, head, reserved in seen)
