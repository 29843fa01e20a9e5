import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer.checkpoint as checkpoint_module
from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot, restore
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from trainer.checkpoint import CheckpointStore, DamagedCheckpoint

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
    assert (restored.head, restored.drawable) == (rows.head, rows.drawable)
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
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

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


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json", "replay-0-000000.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "shorter", "flipped"])
def test_a_damaged_newest_falls_back_to_the_one_before(
    store: CheckpointStore, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = new_rows(2000)
    append(Writer(rows), 5)
    good = store.save("1", {"w": np.zeros(3)}, {"samples": 1}, {SPEC.name: Snapshot(rows)})
    append(Writer(rows), 1)
    newest = store.save("2", {"w": np.ones(3)}, {"samples": 2}, {SPEC.name: Snapshot(rows)})
    path = newest / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    if damage == "shorter":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "outstep"):
        assert store.load_latest().path == good
    assert f"{newest} is damaged: {file}" in caplog.text


def test_without_a_sound_checkpoint_the_user_is_told(store: CheckpointStore) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        store.load_latest()


def test_a_kill_at_any_write_or_rename_leaves_a_checkpoint_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kill(BaseException):
        pass

    points = 0
    budget = 10**9

    def count() -> None:
        nonlocal points
        points += 1
        if points > budget:
            raise Kill

    real_rename, real_rmtree = Path.rename, shutil.rmtree

    def fsync(_: int) -> None:
        count()

    def rename(self: Path, target: Path) -> Path:
        count()
        return real_rename(self, target)

    def rmtree(path: Path) -> None:
        for file in sorted(path.iterdir()):
            count()
            file.unlink()
        real_rmtree(path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(checkpoint_module.shutil, "rmtree", rmtree)
    rows = new_rows(2000)
    append(Writer(rows), 5)

    def save_two(folder: Path) -> None:
        store = CheckpointStore(folder, keep=1)
        for i in (2, 3):
            store.save_best({"w": np.full(1, i)}, {"samples": i})
            store.save(str(i), {"w": np.full(1, i)}, {"samples": i}, {SPEC.name: Snapshot(rows)})

    def prepare(folder: Path) -> None:
        store = CheckpointStore(folder, keep=1)
        store.save_best({"w": np.full(1, 1)}, {"samples": 1})
        store.save("1", {"w": np.full(1, 1)}, {"samples": 1}, {SPEC.name: Snapshot(rows)})

    prepare(tmp_path / "counting")
    points = 0
    save_two(tmp_path / "counting")
    total = points
    assert total > 20
    for at in range(total):
        folder = tmp_path / str(at)
        budget = 10**9
        prepare(folder)
        points, budget = 0, at
        with pytest.raises(Kill):
            save_two(folder)
        budget = 10**9
        store = CheckpointStore(folder, keep=1)
        newest, best = store.load_latest(), store.best()
        assert newest.state["samples"] == newest.tensors["w"][0]
        assert best is not None
        for path in (best, *store.all()):
            store.load(path)  # what bears its name is whole
        store.save("9", {}, {})
        assert not list(folder.glob(".aside*"))


def test_a_newer_format_is_refused_not_fallen_back_from(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("1", {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "FORMAT", 2)
        store.save("2", {}, {})
    with pytest.raises(UserError, match="format 2") as caught:
        store.load_latest()
    assert not isinstance(caught.value, DamagedCheckpoint)


def test_unknown_keys_of_a_manifest_are_ignored(store: CheckpointStore) -> None:
    path = store.save("1", {}, {"a": 1})
    manifest = json.loads((path / "manifest.json").read_text())
    body = {**{k: v for k, v in manifest.items() if k != "sha256"}, "later": 1}
    (path / "manifest.json").write_text(json.dumps({**body, "sha256": checkpoint_module._digest(body)}))
    assert store.load(path).state == {"a": 1}
