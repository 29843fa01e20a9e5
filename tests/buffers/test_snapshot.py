"""Saving and restoring rows."""

import numpy as np
import pytest

from buffers import snapshot
from buffers.replay import Replay
from buffers.rollout import RolloutReader
from buffers.rows import Writer
from buffers.snapshot import Snapshot, restore
from tests.buffers import buffers_oracle as oracle
from tests.buffers.buffers_oracle import Players, make_rows


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", 50 * make_rows(16).layout.row_bytes)


def played(capacity: int, appends: int) -> Players:
    players = Players(make_rows(capacity), agents=10)
    for _ in range(appends):
        players.append()
    return players


@pytest.mark.parametrize(("capacity", "appends"), [(1000, 40), (200, 400), (150, 3)])
def test_restored_rows_are_the_same_and_training_goes_on_the_same(capacity, appends):
    players = played(capacity, appends)
    rows, saved = players.rows, Snapshot(players.rows)
    chunks = dict(saved.chunks())
    other = make_rows(capacity)
    restore(other, saved.index(), chunks.items())
    assert list(chunks) == list(saved.indices)
    assert np.array_equal(other.header, rows.header)
    for name, field in rows.fields.items():
        assert np.array_equal(other.fields[name], field), name
    writer = Writer(other)
    writer.load_state(players.writer.state())
    players.writer = writer
    players.rows = other
    for _ in range(20):
        players.append()
    batch = Replay(other).sample(np.random.default_rng(0), 200, 3, 0.9)
    episode, step = (
        np.array([getattr(players.steps[n - 1], k) for n in batch.numbers[:, 0]]) for k in ("episode", "step")
    )
    assert np.array_equal(batch.observations[0][:, 0], oracle.vector(episode, step))
    assert other.sampleable_now == sum(s.sampleable for s in players.held())


def test_only_changed_chunks_need_be_written_again():
    players = played(400, 50)
    first = Snapshot(players.rows)
    files = dict(first.chunks())
    first.index()
    for _ in range(30):
        players.append()
    second = Snapshot(players.rows)
    written = dict(second.chunks(since=first.head))
    assert list(written) == [i for i in second.indices if (i + 1) * 50 > first.head]
    assert len(written) < len(second.indices)
    files.update(written)
    other = make_rows(400)
    restore(other, second.index(), ((i, files[i]) for i in second.indices))
    for name, field in players.rows.fields.items():
        assert np.array_equal(other.fields[name], field), name


def test_rows_overwritten_while_saving_are_left_out_and_links_beyond_the_snapshot_are_cut():
    players = played(400, 200)
    saved = Snapshot(players.rows)
    chunks = []
    for chunk in saved.chunks():
        chunks.append(chunk)
        for _ in range(5):
            players.append()
    index = saved.index()
    other = make_rows(400)
    restore(other, index, chunks)
    oldest = players.rows.overwritten + 1
    assert index["oldest"] == oldest > saved.head - 400 + 1
    assert other.head == saved.head < players.rows.head
    numbers = np.arange(oldest, saved.head + 1)
    steps = [players.steps[n - 1] for n in numbers]
    vector, links = other.gather(numbers, ("observation_0", "next"))
    episode, step = np.array([s.episode for s in steps]), np.array([s.step for s in steps])
    assert np.array_equal(vector, oracle.vector(episode, step))
    wanted = [0 if s.terminated else s.next.number if s.next and s.next.number <= saved.head else -1 for s in steps]
    assert links.tolist() == wanted
    assert other.sampleable_now == sum(link >= 0 for link in wanted)
    starts = Replay(other).draw(np.random.default_rng(0), 500, 2).numbers[:, 0]
    assert starts.min() >= oldest


def test_a_snapshot_of_which_all_was_overwritten_while_saving_restores_no_row():
    players = played(150, 100)
    saved = Snapshot(players.rows)
    chunks = list(saved.chunks())
    while players.rows.overwritten <= saved.head + 20:
        players.append()
    index = saved.index()
    assert index["oldest"] == saved.head + 1
    other = make_rows(150)
    restore(other, index, chunks)
    assert other.head == saved.head
    assert other.sampleable_now == 0


def test_links_read_from_rows_that_were_just_overwritten_are_left_out(monkeypatch):
    players = played(400, 200)
    saved, gather = Snapshot(players.rows), players.rows.gather
    chunks = list(saved.chunks())

    def gather_after_the_writer_went_on(numbers, names):
        for _ in range(9):
            players.append()
        return gather(numbers, names)

    monkeypatch.setattr(players.rows, "gather", gather_after_the_writer_went_on)
    index = saved.index()
    assert index["oldest"] == players.rows.overwritten + 1
    assert len(index["next"]) == saved.head - index["oldest"] + 1
    other = make_rows(400)
    restore(other, index, chunks)
    assert other.gather(np.array([index["oldest"]]), ("next",))[0] == index["next"][0]


@pytest.mark.parametrize("capacity", [90, 1000])
def test_a_snapshot_fits_a_buffer_of_another_size(capacity):
    players = played(400, 200)
    saved = Snapshot(players.rows)
    other = make_rows(capacity)
    chunks = list(saved.chunks())
    restore(other, saved.index(), chunks)
    kept = players.held()[-capacity:]
    vector, links = other.gather(np.array([s.number for s in kept]), ("observation_0", "next"))
    episode, step = np.array([s.episode for s in kept]), np.array([s.step for s in kept])
    assert np.array_equal(vector, oracle.vector(episode, step))
    assert other.sampleable_now == sum(s.sampleable for s in kept) == (links >= 0).sum()
    Writer(other)
    players.rows, players.writer = other, Writer(other)
    for _ in range(300):
        players.append()
    assert other.sampleable_now == (other.fields["next"][1:] >= 0).sum() - max(0, capacity - other.head)


@pytest.mark.parametrize("later", ["rows", "rollout"])
def test_a_rollout_goes_on_with_rows_saved_a_little_earlier_or_later(later):
    players = played(1000, 60)
    reader = RolloutReader(players.rows, 50)
    reader.take(0, 0)
    state = reader.state()
    if later == "rows":
        for _ in range(5):
            players.append()
    saved = Snapshot(players.rows)
    chunks, index = list(saved.chunks()), saved.index()
    if later == "rollout":
        for _ in range(60):
            players.append()
        reader.take(0, 0)
        state = reader.state()
    other = make_rows(1000)
    restore(other, index, chunks)
    resumed = RolloutReader(other, 50)
    resumed.load_state(state)
    links = other.fields["next"][1 : other.head + 1]
    taken = 50 if later == "rows" else None
    waiting = resumed.waiting
    assert taken is None or waiting == (links >= 0).sum() - taken
    taken = 0
    while resumed.take(0, 0):
        taken += 50
    assert 0 <= waiting - taken == resumed.waiting < 50
    assert resumed.dropped == 0
