"""Checkpoints that survive a kill at any byte: written aside, flushed, renamed, with checksums; never a pickle.

A checkpoint is a folder of safetensors and JSON files, and `manifest.json`, which lists them with their SHA-256. Chunks
of the replay that did not change since the checkpoint before are hard links to its files: a folder is whole by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from buffers.snapshot import Snapshot
from envs.spec import Array, UserError

FORMAT = 1
"""Version of the layout of files. Readers ignore keys that they do not know, and refuse a higher number."""

_MANIFEST, _STATE, _TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_BEST, _ASIDE = "best-", ".aside-"
_log = logging.getLogger("outstep")


class DamagedCheckpoint(UserError):
    """A checkpoint whose files are missing, cut short or changed."""


@dataclass(frozen=True)
class SavedReplay:
    """One behavior's rows in a checkpoint, for `buffers.snapshot.restore(rows, saved.index, saved.chunks())`."""

    index: dict[str, Array]
    """Counters and links."""
    files: dict[int, Path]
    """Chunk number to file."""

    def chunks(self) -> Iterator[tuple[int, dict[str, Array]]]:
        """The chunks, read one at a time: number, arrays by field."""
        for number, file in self.files.items():
            yield number, safetensors.load(file.read_bytes())


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, verified."""

    path: Path
    tensors: dict[str, Array]
    state: dict[str, Any]
    """JSON: dicts, lists, strings, numbers."""
    replay: dict[str, SavedReplay]
    """By behavior; empty if saved without."""


class CheckpointStore:
    """The checkpoints of one run: the newest `keep`, and the best."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = folder
        self._keep = keep
        self._base: Path | None = None
        """What this run last saved or loaded: only its chunks are sure to hold the same rows."""

    def save(
        self,
        name: str,
        tensors: Mapping[str, Any],
        state: Mapping[str, Any],
        replay: Mapping[str, Snapshot] | None = None,
    ) -> Path:
        """Writes a checkpoint and removes those that are older than the newest `keep`.

        Args:
            name: part of the folder's name, such as the number of samples.
            tensors: arrays or torch tensors.
            state: what JSON holds; numpy scalars are taken.
            replay: snapshots of the rows, by behavior.

        Raises:
            OSError: the disk refuses; the checkpoints before are untouched.
        """
        self._remove_leftovers()
        newest = self.latest()
        number = _number(newest) + 1 if newest else 1
        aside = self._aside(number)
        files = _write_parts(aside, tensors, state)
        saved = [self._write_replay(aside, files, place, item) for place, item in enumerate((replay or {}).items())]
        self._base = self._publish(aside, f"{number:06d}-{name}", files, saved)
        for old in self.all()[: -self._keep]:
            self._remove(old)
        return self._base

    def save_best(self, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
        """Writes the best weights so far, in place of those before."""
        self._remove_leftovers()
        before = self.best()
        number = _number(before) + 1 if before else 1
        aside = self._aside(number)
        path = self._publish(aside, f"{_BEST}{number:06d}", _write_parts(aside, tensors, state), [])
        if before:
            self._remove(before)
        return path

    def all(self) -> list[Path]:
        """The checkpoints, oldest first, without the best."""
        return sorted(p for p in self.folder.glob("[0-9]*-*") if p.is_dir())

    def latest(self) -> Path | None:
        """The newest checkpoint, unverified."""
        return next(iter(reversed(self.all())), None)

    def best(self) -> Path | None:
        """The best checkpoint, which holds weights only, unverified."""
        return next(iter(sorted(self.folder.glob(f"{_BEST}*"), reverse=True)), None)

    def load(self, path: Path) -> Checkpoint:
        """Reads and verifies a checkpoint.

        Raises:
            DamagedCheckpoint: which file, and how.
            UserError: it is of a newer format.
        """
        manifest = _read_manifest(path)
        for file, expected in manifest["files"].items():
            _verify(path, file, expected)
        tensors = safetensors.load((path / _TENSORS).read_bytes())
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        replay = {}
        for saved in manifest["replay"]:
            chunks = {int(number): path / file for number, file in saved["chunks"].items()}
            replay[saved["behavior"]] = SavedReplay(safetensors.load((path / saved["index"]).read_bytes()), chunks)
        self._base = path
        return Checkpoint(path, tensors, state, replay)

    def load_latest(self) -> Checkpoint:
        """The newest checkpoint that is not damaged; a damaged one is named in the log.

        Raises:
            UserError: there is none.
        """
        for path in reversed(self.all()):
            try:
                return self.load(path)
            except DamagedCheckpoint as error:
                _log.warning("%s; taking the checkpoint before it", error)
        raise UserError(f"{self.folder} holds no checkpoint that can be loaded")

    def _write_replay(self, aside: Path, files: dict[str, Any], place: int, item: tuple[str, Snapshot]) -> Any:
        """Writes the chunks that changed and links the others; returns the manifest's entry."""
        behavior, snapshot = item
        head, before = self._chunks_before(behavior, snapshot.chunk_rows)
        if any(number not in before and (number + 1) * snapshot.chunk_rows <= head for number in snapshot.indices):
            head = 0
        chunks = {number: f"replay-{place}-{number:06d}.safetensors" for number in snapshot.indices}
        changed = set()
        for number, arrays in snapshot.chunks(since=head):
            files[chunks[number]] = _write(aside / chunks[number], safetensors.save(arrays))
            changed.add(number)
        for number in chunks.keys() - changed:
            source, files[chunks[number]] = before[number]
            _link(source, aside / chunks[number])
        index = f"replay-{place}-index.safetensors"
        files[index] = _write(aside / index, safetensors.save(snapshot.index()))
        return {
            "behavior": behavior,
            "head": snapshot.head,
            "chunk_rows": snapshot.chunk_rows,
            "index": index,
            "chunks": chunks,
        }

    def _chunks_before(self, behavior: str, chunk_rows: int) -> tuple[int, dict[int, tuple[Path, Any]]]:
        """Head of the checkpoint before this one, and its chunks: number to file and manifest's entry of the file."""
        if self._base is None or not self._base.is_dir():
            return 0, {}
        manifest = _read_manifest(self._base)
        for saved in manifest["replay"]:
            if saved["behavior"] == behavior and saved["chunk_rows"] == chunk_rows:
                chunks = saved["chunks"].items()
                return saved["head"], {int(n): (self._base / f, manifest["files"][f]) for n, f in chunks}
        return 0, {}

    def _aside(self, number: int) -> Path:
        aside = self.folder / f"{_ASIDE}{number}"
        aside.mkdir(parents=True)
        return aside

    def _publish(self, aside: Path, name: str, files: dict[str, Any], replay: list[Any]) -> Path:
        body = {"format": FORMAT, "files": files, "replay": replay}
        _write(aside / _MANIFEST, json.dumps({**body, "sha256": _digest(body)}, indent=1).encode())
        _flush_folder(aside)
        path = self.folder / name
        aside.rename(path)
        _flush_folder(self.folder)
        return path

    def _remove(self, path: Path) -> None:
        """Renamed first, so that a kill leaves no half of a checkpoint under its name."""
        aside = path.with_name(_ASIDE + path.name)
        path.rename(aside)
        shutil.rmtree(aside)

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(f"{_ASIDE}*"):
            shutil.rmtree(path)


def _write_parts(aside: Path, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    text = json.dumps(state, default=lambda scalar: scalar.item())
    return {
        _TENSORS: _write(aside / _TENSORS, safetensors.save(arrays)),
        _STATE: _write(aside / _STATE, text.encode()),
    }


def _array(tensor: Any) -> Array:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.asarray(tensor, order="C")


def _write(path: Path, data: bytes) -> dict[str, Any]:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        # Not every file system has hard links.
        shutil.copy2(source, path)


def _flush_folder(path: Path) -> None:
    """Makes renames in a folder last; Windows has no such call."""
    if os.name != "nt":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        body = {key: value for key, value in manifest.items() if key != "sha256"}
        if manifest["sha256"] != _digest(body):
            raise DamagedCheckpoint(f"checkpoint {path} is damaged: {_MANIFEST} was changed")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {_MANIFEST} cannot be read ({error})") from error
    if manifest["format"] > FORMAT:
        raise UserError(
            f"checkpoint {path} is of format {manifest['format']}, this version reads up to {FORMAT}: update outstep"
        )
    return manifest


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _verify(path: Path, file: str, expected: Mapping[str, Any]) -> None:
    try:
        data = (path / file).read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {file} cannot be read ({error.strerror})") from error
    if len(data) != expected["bytes"]:
        raise DamagedCheckpoint(
            f"checkpoint {path} is damaged: {file} has {len(data)} bytes, not the {expected['bytes']} that were written"
        )
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {file} was changed since it was written")


def _number(path: Path) -> int:
    return int(path.name.removeprefix(_BEST).partition("-")[0])
