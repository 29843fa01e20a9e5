"""Checkpoints that are damaged, hostile, or of another version."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainer.checkpoint as checkpoint_module
from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot, restore
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from trainer.checkpoint import CheckpointStore, DamagedCheckpoint
from trainer.config.schema import Which
from trainer.saved_policy import load_checkpoint

SPEC = BehaviorSpec("Toy/v0", (ObservationSpec("x", (2,), "float32"),), branches=(3,))
FILES = ["tensors.safetensors", "state.json", "manifest.json", "replay-0-000000.safetensors"]
FILES += ["replay-0-index.safetensors"]


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run" / "checkpoints", keep=2)


def some_rows(steps: int = 5) -> Rows:
    layout = Layout(SPEC)
    rows = Rows(layout, bytearray(layout.memory_bytes(200)), 200)
    writer = Writer(rows)
    for step in range(steps):
        writer.append(
            agent=np.arange(4),
            observations=(np.full((4, 2), step, np.float32),),
            mask=np.zeros((4, 0), bool),
            continuous=np.zeros((4, 0), np.float32),
            discrete=np.ones((4, 1), np.int32),
            log_prob=np.zeros(4, np.float32),
            version=1,
            reward=np.full(4, step, np.float32),
            terminated=np.zeros(4, bool),
            truncated=np.zeros(4, bool),
            final_observations=(np.zeros((0, 2), np.float32),),
            final_mask=np.zeros((0, 0), bool),
        )
    return rows


def save(store: CheckpointStore, number: int) -> Path:
    return store.save(
        str(number), {"w": np.full(3, number)}, {"behaviors": {}, "n": number}, {SPEC.name: Snapshot(some_rows())}
    )


def cut(file: Path) -> None:
    data = file.read_bytes()
    file.unlink()  # what is linked to it stays
    file.write_bytes(data[: len(data) // 2])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.unlink()
    file.touch()


def into_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("nothing"))


def link_to_endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES = [Path.unlink, cut, flip, empty, into_folder]
DAMAGES += [] if os.name == "nt" else [link_nowhere, link_to_endless, pipe]
EACH_DAMAGE = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


@pytest.mark.parametrize("file", FILES)
@EACH_DAMAGE
def test_a_damaged_newest_falls_back_to_the_one_before(
    store: CheckpointStore, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    good, newest = save(store, 1), save(store, 2)
    damage(newest / file)
    with caplog.at_level(logging.WARNING, "outstep"):
        loaded = store.load_latest()
    assert (loaded.path, loaded.state) == (good, {"behaviors": {}, "n": 1})
    assert f"{newest} is damaged: {file}: " in caplog.text
    assert caplog.text.count("is damaged") == 1


def test_each_flipped_bit_is_noticed(store: CheckpointStore) -> None:
    path = save(store, 1)
    for file in FILES:
        data = (path / file).read_bytes()
        for place in range(0, len(data), 1 + len(data) // 40):
            (path / file).write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            with pytest.raises(DamagedCheckpoint):
                store.load(path)
        (path / file).write_bytes(data)
    assert store.load(path).state == {"behaviors": {}, "n": 1}


def test_without_a_sound_checkpoint_the_user_is_told(store: CheckpointStore) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        store.load_latest()
    for number in (1, 2):
        flip(save(store, number) / "state.json")
    with pytest.raises(UserError, match="holds no checkpoint that can be loaded"):
        store.load_latest()


def test_a_damaged_one_takes_no_sound_ones_place(store: CheckpointStore) -> None:
    for number in (1, 2, 3):
        newest = save(store, number)
    flip(newest / "state.json")
    resumed = CheckpointStore(store.folder, keep=2)
    assert resumed.load_latest().state == {"behaviors": {}, "n": 2}
    save(resumed, 4)
    assert [path.name for path in resumed.all()] == ["000002-2", "000003-3", "000004-4"]
    save(resumed, 5)
    assert [path.name for path in resumed.all()] == ["000004-4", "000005-5"]


@EACH_DAMAGE
def test_where_the_best_is_damaged_the_newest_is_taken(
    store: CheckpointStore, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    newest = save(store, 1)
    best = store.save_best({"w": np.zeros(1)}, {"behaviors": {}, "mean": 3.0})
    run = str(store.folder.parent)
    assert load_checkpoint(run).path == best
    damage(best / "tensors.safetensors")
    assert load_checkpoint(run).path == newest
    assert f"{best} is damaged: tensors.safetensors: " in caplog.text
    assert store.load_best() is None
    flip(newest / "state.json")
    for which in ("best", "last"):
        with pytest.raises(UserError, match="holds no checkpoint that can be loaded"):
            load_checkpoint(run, Which[which])


def test_of_two_best_ones_that_a_kill_has_left_the_newer_counts_and_the_next_replaces_both(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    store.save_best({}, {"mean": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save_best({}, {"mean": 2.0})
    best = store.load_best()
    assert best is not None
    assert best.state == {"mean": 2.0}
    flip(best.path / "state.json")
    before = store.load_best()
    assert before is not None
    assert before.state == {"mean": 1.0}
    path = store.save_best({}, {"mean": 4.0})
    assert list(store.folder.iterdir()) == [path]


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a manifest and makes its sum right again."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    change(manifest)
    manifest["sha256"] = checkpoint_module._digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def elsewhere(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["files"].update({name: manifest["files"]["state.json"]})


@pytest.mark.parametrize(
    "change",
    [
        *map(elsewhere, ("../other/state.json", "/etc/passwd", "..", ".", "", "a/b", "C:\\x", ".aside")),
        lambda manifest: manifest["files"].pop("state.json"),
        lambda manifest: manifest["files"].pop("replay-0-000000.safetensors"),
        lambda manifest: manifest.pop("files"),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.update(replay=7),
        lambda manifest: manifest.update(format="one"),
        lambda manifest: manifest["files"]["state.json"].update(bytes=2**62),
        lambda manifest: manifest["files"]["state.json"].update(bytes=None),
        lambda manifest: manifest["files"].update({"state.json": 3}),
        lambda manifest: manifest["replay"][0].update(index="state.json"),
        lambda manifest: manifest["replay"][0].update(index="../index"),
        lambda manifest: manifest["replay"][0].update(chunk_rows=0),
        lambda manifest: manifest["replay"][0].update(head="x"),
        lambda manifest: manifest["replay"][0].update(behavior=["a"]),
        lambda manifest: manifest["replay"][0]["chunks"].update(x="state.json"),
        lambda manifest: manifest["replay"][0].pop("chunks"),
    ],
)
def test_a_manifest_that_lists_what_none_of_ours_does_is_damaged_and_nothing_else_is_read(
    store: CheckpointStore, change: Callable[[dict[str, Any]], object]
) -> None:
    good, newest = save(store, 1), save(store, 2)
    rewrite(newest, change)
    with pytest.raises(DamagedCheckpoint, match=f"{newest} is damaged: "):
        store.load(newest)
    assert store.load_latest().path == good


def replace(path: Path, file: str, data: bytes) -> None:
    """Puts other content into a file, and its sum into the manifest."""
    (path / file).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    rewrite(path, lambda manifest: manifest["files"].update({file: entry}))


def tensors_of(**entries: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file by hand: type, shape and bytes of each array."""
    header, data = {}, b""
    for name, (kind, shape, content) in entries.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("state.json", b"[]"),
        ("state.json", b"[" * 100_000),
        ("state.json", b"\xff"),
        ("tensors.safetensors", b""),
        ("tensors.safetensors", struct.pack("<Q", 2**31) + b"{}"),
        ("tensors.safetensors", struct.pack("<Q", 2**63) + b"{}"),
        ("tensors.safetensors", tensors_of(w=("F32", [2**29], b""))),
        ("tensors.safetensors", tensors_of(w=("BF16", [1], b"ab"))),
        ("replay-0-index.safetensors", b"\0" * 9),
    ],
)
def test_content_that_cannot_be_is_damage_though_its_sum_is_right(
    store: CheckpointStore, file: str, data: bytes
) -> None:
    path = save(store, 1)
    replace(path, file, data)
    with pytest.raises(DamagedCheckpoint, match=f"is damaged: {file}: "):
        store.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head", 2**62),
        ("head", -(2**62)),
        ("oldest", 0),
        ("chunk_rows", -1),
        ("chunk_rows", 1),
        ("next", np.full(20, 2**40)),
        ("next", np.full(20, 3)),
        ("next", np.zeros(20, np.float32)),
        ("next", None),
        ("drawable", np.zeros(7, np.int64)),
        ("observation_0", np.zeros((20, 3), np.float32)),
        ("observation_0", np.zeros((20, 2), np.float64)),
        ("reward", None),
        ("reward", np.zeros(19, np.float32)),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_any_memory_is_taken(name: str, value: Any) -> None:
    saved = Snapshot(some_rows())
    (number, chunk), index = next(saved.chunks()), saved.index()
    changed = index if name in index else chunk
    if value is None:
        del changed[name]
    else:
        changed[name] = np.asarray(value, *[np.int64] * isinstance(value, int))
    with pytest.raises(UserError, match="that were saved"):
        restore(some_rows(0), index, [(number, chunk)])


def test_rows_of_which_a_chunk_is_missing_are_refused() -> None:
    with pytest.raises(UserError, match="of the rows 1 to 20 that were saved, 0 are there"):
        restore(some_rows(0), Snapshot(some_rows()).index(), [])


def test_a_newer_format_is_refused_not_fallen_back_from(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("1", {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "FORMAT", 2)
        store.save("2", {}, {})
    with pytest.raises(UserError, match="is of format 2, this version reads up to 1: update outstep") as caught:
        store.load_latest()
    assert not isinstance(caught.value, DamagedCheckpoint)


def test_unknown_keys_and_files_are_passed_over(store: CheckpointStore) -> None:
    path = save(store, 1)
    index = {"later": np.zeros(3), **store.load(path).replay[SPEC.name].index}
    replace(path, "replay-0-index.safetensors", checkpoint_module.safetensors.save(index))
    (path / "later.bin").write_bytes(b"more")

    def more(manifest: dict[str, Any]) -> None:
        manifest["later"] = {"much": 1}
        manifest["replay"][0]["later"] = 2
        manifest["files"]["state.json"]["later"] = 3
        entry = {"bytes": 4, "sha256": hashlib.sha256(b"more").hexdigest()}
        manifest["files"]["later.bin"] = entry

    rewrite(path, more)
    loaded = store.load(path)
    assert loaded.state == {"behaviors": {}, "n": 1}
    rows = some_rows(0)
    restore(rows, loaded.replay[SPEC.name].index, loaded.replay[SPEC.name].chunks())
    assert rows.head == 20


def test_format_1_written_by_hand_is_read(store: CheckpointStore) -> None:
    """As the first version wrote it: what changes here has to be a new format, or to have a default."""
    path = store.folder / "000012-345"
    path.mkdir(parents=True)
    floats, numbers = np.arange(4, dtype="<f4").tobytes(), np.array([2, 3, -1, 0], "<i8").tobytes()

    def counter(value: int) -> tuple[str, list[int], bytes]:
        return "I64", [], struct.pack("<q", value)

    names = ("log_prob", "reward")
    chunk = {name: ("F32", [4], floats) for name in names}
    chunk |= {name: ("I64", [4], numbers) for name in ("version", "agent", "number")}
    chunk |= {name: ("BOOL", [4], bytes(4)) for name in ("terminated", "truncated", "final")}
    chunk |= {"observation_0": ("F32", [4, 2], floats * 2), "mask": ("BOOL", [4, 0], b"")}
    chunk |= {"continuous": ("F32", [4, 0], b""), "discrete": ("I32", [4, 1], bytes(16))}
    index = {"next": ("I64", [4], numbers), "head": counter(4), "oldest": counter(1), "drawable": counter(3)}
    index |= {"samples": counter(4), "chunk_rows": counter(100)}
    contents = {
        "tensors.safetensors": tensors_of(**{"Toy/v0/weights/policy": ("F32", [2, 2], floats)}),
        "state.json": json.dumps({"behaviors": {"Toy/v0": {"samples": 345}}}).encode(),
        "replay-0-000000.safetensors": tensors_of(**chunk),
        "replay-0-index.safetensors": tensors_of(**index),
    }
    for name, data in contents.items():
        (path / name).write_bytes(data)
    manifest = {
        "format": 1,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()
        },
        "replay": [
            {
                "behavior": "Toy/v0",
                "head": 4,
                "chunk_rows": 100,
                "index": "replay-0-index.safetensors",
                "chunks": {"0": "replay-0-000000.safetensors"},
            }
        ],
    }
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": digest}, indent=1))

    loaded = store.load_latest()
    assert loaded.path == path
    assert loaded.tensors["Toy/v0/weights/policy"].tolist() == [[0, 1], [2, 3]]
    assert loaded.state == {"behaviors": {"Toy/v0": {"samples": 345}}}
    rows = some_rows(0)
    restore(rows, loaded.replay["Toy/v0"].index, loaded.replay["Toy/v0"].chunks())
    assert (rows.head, rows.samples, rows.sampleable_now) == (4, 4, 3)
    assert rows.fields["reward"][1:5].tolist() == [0, 1, 2, 3]
    assert rows.fields["next"][1:5].tolist() == [2, 3, -1, 0]
