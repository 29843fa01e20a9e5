"""Checkpoints that survive a kill at any byte: written aside, flushed, renamed, with checksums; never a pickle.

A checkpoint is a folder of safetensors and JSON files, and `manifest.json`, which lists them with their SHA-256. Chunks
of the replay that did not change since the checkpoint before are hard links to its files: a folder is whole by itself.
It gets its name only once its content and its folder would survive a power cut; older ones are removed after that.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from buffers.snapshot import Snapshot
from envs.process.whole_files import flush, write_flushed
from envs.spec import Array, UserError

FORMAT = 1
"""Version of the layout of files. Readers ignore keys that they do not know, and refuse a higher number."""

_MANIFEST, _STATE, _TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_BEST, _ASIDE = "best-", ".aside-"
_log = logging.getLogger("outstep")


class DamagedCheckpoint(UserError):
    """A checkpoint has files that are missing, cut short or changed."""


@dataclass(frozen=True)
class SavedReplay:
    """One behavior's rows in a checkpoint, for `buffers.snapshot.restore(rows, saved.index, saved.chunks())`."""

    index: dict[str, Array]
    """Counters and links."""
    files: dict[int, Path]
    """Chunk number to file."""

    def chunks(self) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yields the chunks, read one at a time: number, arrays by field."""
        for number, file in self.files.items():
            yield number, _load_arrays(file)


@dataclass(frozen=True)
class Checkpoint:
    """The verified content of a checkpoint."""

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
        """The checkpoint that this run last saved or resumed from: only its chunks are sure to hold the same rows."""
        self._damaged: set[Path] = set()
        """Found damaged: they do not count among the newest `keep`."""

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
        number = _next(self.all())
        with self._aside() as aside:
            files = _write_parts(aside, tensors, state)
            saved = [self._write_replay(aside, files, place, item) for place, item in enumerate((replay or {}).items())]
            self._base = self._publish(aside, f"{number:06d}-{name}", files, saved)
        sound = [path for path in self.all() if path not in self._damaged]
        for old in self.all():
            if _number(old) < _number(sound[-self._keep :][0]):
                _remove(old)
        return self._base

    def save_best(self, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
        """Writes the best weights so far, in place of those before."""
        before = self._bests()
        with self._aside() as aside:
            name = f"{_BEST}{_next(before):06d}"
            path = self._publish(aside, name, _write_parts(aside, tensors, state), [])
        for old in before:
            _remove(old)
        return path

    def all(self) -> list[Path]:
        """Returns the checkpoints, oldest first, without the best."""
        return self._folders(r"[0-9]+-.*")

    def latest(self) -> Path | None:
        """Returns the newest checkpoint, unverified."""
        return next(reversed(self.all()), None)

    def best(self) -> Path | None:
        """Returns the best checkpoint, which holds weights only, unverified."""
        return next(reversed(self._bests()), None)

    def load(self, path: Path) -> Checkpoint:
        """Reads and verifies a checkpoint.

        Raises:
            DamagedCheckpoint: which file, and how.
            UserError: it is of a newer format.
        """
        manifest = _read_manifest(path)
        for file, expected in manifest["files"].items():
            with _reading(path / file):
                if _sha256(_contents(path / file, expected["bytes"])) != expected["sha256"]:
                    raise ValueError("it was changed since it was written")
        with _reading(path / _STATE):
            state = json.loads(_contents(path / _STATE))
            if not isinstance(state, dict):
                raise ValueError(f"it holds {type(state).__name__}, not an object")
        replay = {}
        for saved in manifest["replay"]:
            chunks = {int(number): path / file for number, file in saved["chunks"].items()}
            replay[saved["behavior"]] = SavedReplay(_load_arrays(path / saved["index"]), chunks)
        return Checkpoint(path, _load_arrays(path / _TENSORS), state, replay)

    def load_latest(self) -> Checkpoint:
        """Returns the newest that is not damaged; UserError if there is none. Damaged ones are named in the log."""
        checkpoint = self._load_newest(self.all())
        if checkpoint is None:
            raise UserError(f"{self.folder} holds no checkpoint that can be loaded")
        self._base = checkpoint.path
        return checkpoint

    def load_best(self) -> Checkpoint | None:
        """Returns the best weights, if there are any that are not damaged; damaged ones are named in the log."""
        return self._load_newest(self._bests())

    def _load_newest(self, paths: Sequence[Path]) -> Checkpoint | None:
        for path in reversed(paths):
            try:
                return self.load(path)
            except DamagedCheckpoint as error:
                self._damaged.add(path)
                _log.warning("%s; an earlier one is used if there is any", error)
        return None

    def _bests(self) -> list[Path]:
        """Returns the best checkpoints: two for a moment, and after a kill in it."""
        return self._folders(rf"{_BEST}[0-9]+")

    def _folders(self, pattern: str) -> list[Path]:
        found = (path for path in self.folder.glob("*") if re.fullmatch(pattern, path.name) and path.is_dir())
        return sorted(found, key=_number)

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
            # As text: sorted as numbers, they would have another checksum when they are read.
            "chunks": {str(number): file for number, file in chunks.items()},
        }

    def _chunks_before(self, behavior: str, chunk_rows: int) -> tuple[int, dict[int, tuple[Path, Any]]]:
        """Returns the head of the checkpoint before, and its chunks by number: file and entry in the manifest."""
        if self._base is None:
            return 0, {}
        with suppress(DamagedCheckpoint):  # it was changed since: then everything is written again
            manifest = _read_manifest(self._base)
            for saved in manifest["replay"]:
                if saved["behavior"] == behavior and saved["chunk_rows"] == chunk_rows:
                    chunks = {int(n): (self._base / f, manifest["files"][f]) for n, f in saved["chunks"].items()}
                    if all(file.is_file() for file, _ in chunks.values()):
                        return saved["head"], chunks
        return 0, {}

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """Yields an empty folder. If the disk refuses what is written there, the folder is removed to make room.

        Leftovers of an earlier save or a kill are removed first.
        """
        for left in self.folder.glob(f"{_ASIDE}*"):
            _remove(left)
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            flush(self.folder.parent)
        aside = self.folder / f"{_ASIDE}new"
        aside.mkdir()
        try:
            yield aside
        except OSError:
            if aside.exists():
                _remove(aside)
            raise

    def _publish(self, aside: Path, name: str, files: dict[str, Any], replay: list[Any]) -> Path:
        body = {"format": FORMAT, "files": files, "replay": replay}
        _write(aside / _MANIFEST, json.dumps({**body, "sha256": _digest(body)}, indent=1).encode())
        flush(aside)
        path = self.folder / name
        aside.rename(path)
        flush(self.folder)
        return path


def _remove(path: Path) -> None:
    """Removes a folder, or a link in its place. One that cannot be removed is logged, and stays until the next save.

    Renamed first, so that a kill leaves no half of a checkpoint under its name.
    """
    aside = path.with_name(_ASIDE + path.name.removeprefix(_ASIDE))
    try:
        path.rename(aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
    except OSError as error:
        _log.warning("%s could not be removed: %s", path, error)


def _write_parts(aside: Path, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    text = json.dumps(state, default=lambda scalar: scalar.item())
    return {_TENSORS: _write(aside / _TENSORS, safetensors.save(arrays)), _STATE: _write(aside / _STATE, text.encode())}


def _array(tensor: Any) -> Array:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.asarray(tensor, order="C")


def _write(path: Path, data: bytes) -> dict[str, Any]:
    write_flushed(path, data)
    return {"bytes": len(data), "sha256": _sha256(data)}


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # not every file system has hard links
        _write(path, source.read_bytes())


def _read_manifest(path: Path) -> dict[str, Any]:
    with _reading(path / _MANIFEST):
        manifest: dict[str, Any] = json.loads(_contents(path / _MANIFEST))
        body = {key: value for key, value in manifest.items() if key != "sha256"}
        if manifest["sha256"] != _digest(body):
            raise ValueError("it was changed since it was written")
        newer = manifest["format"] > FORMAT
        if not newer:
            _check_manifest(manifest)
    if newer:
        raise UserError(
            f"checkpoint {path} is of format {manifest['format']}, this version reads up to {FORMAT}: update outstep"
        )
    return manifest


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises one of `_UNREADABLE` if it says what no manifest of ours does: anybody can compute its checksum."""
    files, used = manifest["files"], [_TENSORS, _STATE]
    for saved in manifest["replay"]:
        if not isinstance(saved["behavior"], str) or not saved["head"] >= 0 or not saved["chunk_rows"] > 0:
            raise ValueError(f"it has rows of {saved['behavior']!r}, {saved['chunk_rows']} to a chunk")
        used += [saved["index"], *saved["chunks"].values()]
        for number in saved["chunks"]:
            int(number)
    for file in used:
        if file not in files:
            raise ValueError(f"it does not list {file}")
    for file, expected in files.items():
        if not re.fullmatch(r"\w[\w.-]*", file):
            raise ValueError(f"it lists {file!r}, which is not the name of a file beside it")
        if not expected["bytes"] >= 0 or "sha256" not in expected:
            raise ValueError(f"it does not say how {file} was written")


def _digest(body: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(body, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _load_arrays(file: Path) -> dict[str, Array]:
    with _reading(file):
        arrays: dict[str, Array] = safetensors.load(_contents(file))
        return arrays


def _contents(file: Path, size: int | None = None) -> bytes:
    """Returns what is in a file of `size` bytes; ValueError if it is not a file: a device or a pipe may have no end."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a file")
    if size is not None and size != found.st_size:
        raise ValueError(f"it has {found.st_size} bytes, not the {size} that were written")
    return file.read_bytes()


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turns errors over what a checkpoint lacks, or holds in another form, into one UserError.

    Sums tell damage; a file that somebody has written has right ones.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UserError(f"{path} cannot be used ({reason}): was it changed, or saved by another version?") from error


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turns errors of reading a file into `DamagedCheckpoint`."""
    try:
        yield
    except _UNREADABLE as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DamagedCheckpoint(f"checkpoint {file.parent} is damaged: {file.name}: {why}") from error


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, SafetensorError)


def _number(path: Path) -> int:
    return int(path.name.removeprefix(_BEST).partition("-")[0])


def _next(paths: Sequence[Path]) -> int:
    return _number(paths[-1]) + 1 if paths else 1
