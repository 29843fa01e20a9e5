import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from buffers import snapshot
from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot, restore
from envs.spec import BehaviorSpec, ObservationSpec
from trainer.checkpoint import CheckpointStore

SPEC = BehaviorSpec("Toy/v0", (ObservationSpec("x", (64,), "float32"),), branches=(3,))
CAPACITY = 120_000
FIELDS = ("observation_0", "discrete", "reward", "number", "next", "version")


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", keep=2)


def new_rows(capacity: int = CAPACITY) -> Rows:
    layout = Layout(SPEC)
    return Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)


def append(writer: Writer, steps: int) -> None:
    """`steps` steps of 100 agents, whose episodes do not end; rewards tell rows apart."""
    agents = np.arange(100, dtype=np.int64)
    for _ in range(steps):
        start = writer.rows.head
        values = np.arange(start, start + 100, dtype=np.float32)
        writer.append(
            agent=agents,
            observations=(np.repeat(values[:, None], 64, 1),),
            mask=np.zeros((100, 0), bool),
            continuous=np.zeros((100, 0), np.float32),
            discrete=np.ones((100, 1), np.int32),
            log_prob=np.zeros(100, np.float32),
            version=1,
            reward=values,
            terminated=np.zeros(100, bool),
            truncated=np.zeros(100, bool),
            final_observations=(np.zeros((0, 64), np.float32),),
            final_mask=np.zeros((0, 0), bool),
        )


def inodes(path: Path) -> dict[str, int]:
    return {p.name: p.stat().st_ino for p in path.glob("replay-0-0*")}


def test_what_was_saved_is_loaded(store: CheckpointStore) -> None:
    tensors = {
        "weights": torch.arange(6.0).reshape(2, 3).t(),
        "steps": torch.tensor(7, dtype=torch.int64),
        "random": torch.get_rng_state(),
        "array": np.array([1.5, 2.5]),
        "flags": torch.tensor([True, False]),
    }
    state = {"samples": np.int64(12), "rng": {"state": 2**100, "name": "PCG64"}, "reward": None, "list": [1, 2.5]}
    path = store.save("12", tensors, state)
    loaded = CheckpointStore(store.folder).load(path)
    assert loaded.state == {**state, "samples": 12}
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert np.array_equal(loaded.tensors[name], np.asarray(tensor))
        assert loaded.tensors[name].shape == tuple(tensor.shape)
        assert loaded.tensors[name].dtype == np.asarray(tensor).dtype


def test_replay_is_restored_from_the_files(store: CheckpointStore) -> None:
    rows = new_rows()
    writer = Writer(rows)
    append(writer, 700)
    path = store.save("1", {}, {}, {SPEC.name: Snapshot(rows)})
    saved = CheckpointStore(store.folder).load(path).replay[SPEC.name]
    restored = new_rows()
    restore(restored, saved.index, saved.chunks())
    assert (restored.head, restored.sampleable) == (rows.head, rows.sampleable)
    for name in FIELDS:
        assert np.array_equal(restored.fields[name], rows.fields[name]), name


def test_only_changed_chunks_are_written_and_the_others_are_the_same_files(store: CheckpointStore) -> None:
    rows = new_rows()
    writer = Writer(rows)
    append(writer, 700)
    first = store.save("1", {}, {}, {SPEC.name: Snapshot(rows)})
    before = inodes(first)
    assert len(before) >= 2
    append(writer, 10)
    second = store.save("2", {}, {}, {SPEC.name: Snapshot(rows)})
    after = inodes(second)
    shared = [name for name in after if after[name] == before.get(name)]
    assert len(shared) == len(after) - 1
    shutil.rmtree(first)
    saved = store.load(second).replay[SPEC.name]
    restored = new_rows()
    restore(restored, saved.index, saved.chunks())
    for name in FIELDS:
        assert np.array_equal(restored.fields[name], rows.fields[name]), name


def test_chunks_are_shared_across_a_resume_but_never_with_what_was_fallen_back_from(store: CheckpointStore) -> None:
    rows = new_rows()
    writer = Writer(rows)
    append(writer, 600)
    good = store.save("1", {}, {}, {SPEC.name: Snapshot(rows)})
    append(writer, 600)
    damaged = store.save("2", {}, {}, {SPEC.name: Snapshot(rows)})
    (damaged / "state.json").write_text("{}x")

    resumed = CheckpointStore(store.folder, keep=3)
    saved = resumed.load_latest().replay[SPEC.name]
    other = new_rows()
    restore(other, saved.index, saved.chunks())
    other_writer = Writer(other)
    append(other_writer, 600)
    other.fields["reward"][other.slots(np.arange(60_001, 120_001))] = -1.0  # what came after differs
    third = resumed.save("3", {}, {}, {SPEC.name: Snapshot(other)})
    assert inodes(third)["replay-0-000000.safetensors"] == inodes(good)["replay-0-000000.safetensors"]
    again = new_rows()
    saved = resumed.load(third).replay[SPEC.name]
    restore(again, saved.index, saved.chunks())
    assert np.array_equal(again.fields["reward"], other.fields["reward"])


def test_a_larger_buffer_after_a_resume_writes_the_chunks_that_were_not_there(store: CheckpointStore) -> None:
    small = new_rows(50_000)
    append(Writer(small), 1500)
    path = store.save("1", {}, {}, {SPEC.name: Snapshot(small)})
    saved = store.load(path).replay[SPEC.name]
    large = new_rows(CAPACITY)
    restore(large, saved.index, saved.chunks())
    second = store.save("2", {}, {}, {SPEC.name: Snapshot(large)})
    again = new_rows(CAPACITY)
    saved = store.load(second).replay[SPEC.name]
    restore(again, saved.index, saved.chunks())
    assert np.array_equal(again.fields["reward"], large.fields["reward"])


def test_without_hard_links_unchanged_chunks_are_copied(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse)
    rows = new_rows()
    append(Writer(rows), 700)
    store.save("1", {}, {}, {SPEC.name: Snapshot(rows)})
    second = store.save("2", {}, {}, {SPEC.name: Snapshot(rows)})
    assert store.load(second).replay[SPEC.name].files.keys() == set(Snapshot(rows).indices)


def test_the_newest_are_kept_and_the_best_beside_them(store: CheckpointStore) -> None:
    for i in range(5):
        if i < 2:
            store.save_best({"w": np.full(2, float(i))}, {"reward": i})
        store.save(str(i), {"w": np.zeros(1)}, {})
    assert [p.name for p in store.all()] == ["000004-3", "000005-4"]
    best = store.best()
    assert best is not None
    assert store.load(best).tensors["w"].tolist() == [1.0, 1.0]
    assert len(list(store.folder.iterdir())) == 3


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be flushed there")
def test_nothing_bears_its_name_or_goes_before_all_of_it_would_outlast_a_power_cut(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    """Inodes whose bytes, or entries, are on the disk."""
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_flush(handle: int) -> None:
        fsync(handle)
        flushed.add(os.fstat(handle).st_ino)
        if os.fstat(handle).st_ino == store.folder.stat().st_ino:
            events.append("flush")

    def note_rename(self: Path, target: Path) -> Path:
        if target.name.startswith(".aside"):
            events.append("remove")
        else:
            assert {self.stat().st_ino, *(file.stat().st_ino for file in self.iterdir())} <= flushed
            flushed.discard(self.stat().st_ino)
            events.append("publish")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "rename", note_rename)
    for linking in (True, False):
        if not linking:
            monkeypatch.setattr(os, "link", refuse)
        rows = new_rows(90_000)
        writer = Writer(rows)
        for i in range(4):
            append(writer, 250)
            store.save(str(i), {}, {}, {SPEC.name: Snapshot(rows)})
            store.save_best({}, {})
    assert store.folder.parent.stat().st_ino in flushed
    assert events.count("publish") == 16
    reported = "".join(event[0] for event in events)
    assert "pf" in reported
    assert reported.count("pf") == reported.count("p"), "an old one went before the new one was sure to stay"


def test_a_full_disk_gets_its_room_back_and_what_was_saved_stays(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.save("1", {"w": np.ones(3)}, {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        for save in (lambda: store.save("2", {}, {}), lambda: store.save_best({}, {})):
            with pytest.raises(OSError, match="not here"):
                save()
            assert [each.name for each in store.folder.iterdir()] == [path.name]
    assert store.save("2", {}, {}).name == "000002-2"


def refuse(*_: object) -> None:
    raise OSError(28, "not here")


def test_an_old_one_that_cannot_be_removed_ends_nothing_and_goes_with_the_next_save(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("1", {}, {})
    store.save("2", {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        assert store.save("3", {}, {}) == store.latest()
    assert f"{store.folder / '000001-1'} could not be removed: " in caplog.text
    store.save("4", {}, {})
    assert sorted(path.name for path in store.folder.iterdir()) == ["000003-3", "000004-4"]


def test_what_others_have_put_there_is_left_alone(store: CheckpointStore) -> None:
    store.save("1", {}, {"a": 1})
    others = ["12ab-x", "best-of-all", "notes", "000002", "best-"]
    for name in others:
        (store.folder / name).mkdir()
    (store.folder / "000007-7").write_text("no folder")
    store.save_best({}, {"b": 2})
    for _ in range(3):
        store.save("2", {}, {})
    best = store.load_best()
    assert best is not None
    assert best.state == {"b": 2}
    assert [path.name for path in store.all()] == ["000003-2", "000004-2"]
    assert {path.name for path in store.folder.iterdir()} > {*others, "000007-7"}


def test_checkpoints_are_in_the_order_of_their_numbers_however_long_these_grow(store: CheckpointStore) -> None:
    for name in ("999999-a", "1000000-b"):
        shutil.move(store.save("x", {}, {}), store.folder / name)
    assert [path.name for path in store.all()] == ["999999-a", "1000000-b"]
    assert store.save("c", {}, {}).name == "1000001-c"


def test_a_replay_of_more_than_ten_chunks_is_loaded(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", 2**14)
    rows = new_rows(2000)
    append(Writer(rows), 20)
    assert {9, 10} < set(Snapshot(rows).indices)
    store.save("1", {}, {}, {SPEC.name: Snapshot(rows)})
    saved = CheckpointStore(store.folder).load_latest().replay[SPEC.name]
    restored = new_rows(2000)
    restore(restored, saved.index, saved.chunks())
    assert np.array_equal(restored.fields["reward"], rows.fields["reward"])


def test_chunks_that_somebody_has_taken_away_are_written_anew(store: CheckpointStore) -> None:
    rows = new_rows(90_000)
    append(Writer(rows), 700)
    first = store.save("1", {}, {}, {SPEC.name: Snapshot(rows)})
    (first / "replay-0-000000.safetensors").unlink()
    second = store.save("2", {}, {}, {SPEC.name: Snapshot(rows)})
    assert store.load(second).replay[SPEC.name].files.keys() == set(Snapshot(rows).indices)
    (second / "manifest.json").write_text("{")
    assert store.load(store.save("3", {}, {}, {SPEC.name: Snapshot(rows)})).replay
