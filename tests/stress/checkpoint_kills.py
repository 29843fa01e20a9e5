"""`python -m tests.stress.checkpoint_kills --json`: kills a process that saves checkpoints, at every point.

A child process saves networks, state and replay: the first checkpoints of a run, later ones that link to chunks before
them and remove old ones, and the best weights. It is killed (SIGKILL) right before one of its calls that change or
flush something on the disk, or (by the kernel, SIGXFSZ) in the middle of the bytes of one of its files. Then what it
has left is looked at as a resumed run would, and the next save is made. After that the same again, but the disk refuses
that one call, and the process goes on.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import machine, machine_line, table
from buffers import snapshot
from buffers.rows import Layout, Rows, Writer
from buffers.snapshot import Snapshot, restore
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from trainer.checkpoint import CheckpointStore

KEEP = 2


class Point(NamedTuple):
    """Where a saving process is stopped: before its `call`-th call, or behind `bytes` of the file that it opens."""

    scenario: str
    call: int
    kind: str
    bytes: int | None = None


class Lost(Exception):
    """What was saved is not there any more, or more is left than should be."""


class Outcome(NamedTuple):
    """What was found after a point."""

    problem: str | None
    new: bool
    """Whether the newest checkpoint is one whose save had not returned."""


def main(argv: list[str] | None = None) -> int:
    """Runs and prints a table, or one JSON object; 0, 1 if anything was lost, 2 where it cannot run."""
    options = _parser().parse_args(argv)
    if not hasattr(os, "fork"):
        print("checkpoint_kills: it needs fork and SIGXFSZ: run it on Linux or macOS", file=sys.stderr)
        return 2
    os.fsync = lambda fd: None  # counted, but a killed process loses nothing that it wrote, and disks take long
    logging.getLogger("outstep").setLevel(logging.CRITICAL)  # what is passed over is meant to be
    result: dict[str, Any] = {"machine": machine()}
    for name in options.only or _FAULTS:
        fault = _FAULTS[name]
        outcomes = {point: _try(point, fault) for point in islice(_points(), 0, None, options.every)}
        result[name] = {
            "points": len(outcomes),
            "by_kind": dict(Counter(point.kind for point in outcomes)),
            "whole": sum(outcome.problem is None for outcome in outcomes.values()),
            "newest_is_the_one_begun": sum(outcome.new for outcome in outcomes.values()),
            "problems": [f"{point}: {outcome.problem}" for point, outcome in outcomes.items() if outcome.problem],
        }
    print(json.dumps(result) if options.json else _text(result))
    return int(any(result[name]["problems"] for name in _FAULTS if name in result))


class _Saver:
    """Saves numbered checkpoints, of weights and rows by which each is known."""

    def __init__(self, folder: Path) -> None:
        layout = Layout(_SPEC)
        snapshot.CHUNK_BYTES = _CHUNK_ROWS * layout.row_bytes
        self._rows = Rows(layout, bytearray(layout.memory_bytes(_CAPACITY)), _CAPACITY)
        self._writer = Writer(self._rows)
        self.store = CheckpointStore(folder, KEEP)

    def save(self, number: int) -> None:
        """A checkpoint, of more rows than that of the number before."""
        while self._rows.head < number * _ROWS_A_SAVE:
            _append(self._writer)
        weights, state = _content(number)
        self.store.save(str(number), weights, state, {_SPEC.name: Snapshot(self._rows)})

    def save_best(self, number: int) -> None:
        """The best weights."""
        self.store.save_best(*_content(number))


Step = tuple[str, int]
"""`save` or `save_best`, and which number."""
_SCENARIOS: dict[str, tuple[list[Step], list[Step]]] = {
    "first": ([], [("save_best", 1), ("save", 1)]),
    "later": (
        [("save_best", 1), ("save", 1), ("save", 2)],
        [("save_best", 3), ("save", 3), ("save", 4), ("save_best", 5), ("save", 5)],
    ),
}
"""What has been saved before, and during what the process is stopped."""
_SPEC = BehaviorSpec("Toy", (ObservationSpec("x", (8,), "float32"),), branches=(3,))
_CAPACITY, _CHUNK_ROWS, _AGENTS, _ROWS_A_SAVE = 300, 40, 10, 90
_CALLS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}
"""Events of Python's auditing (PEP 578), each right before the call; fsync has none."""
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)


def _points() -> Iterator[Point]:
    """All of them: before each call, and behind the first byte, half and all but one of the bytes of each file."""
    for scenario in _SCENARIOS:
        for call, (kind, size) in enumerate(_calls(scenario)):
            yield Point(scenario, call, kind)
            for behind in sorted({1, size // 2, size - 1}) if size > 1 else ():
                yield Point(scenario, call, "write", behind)


def _calls(scenario: str) -> list[tuple[str, int]]:
    """The calls of a scenario: kind, and how many bytes the file had in the end that it opened to write."""
    with tempfile.TemporaryDirectory() as folder:
        seen: list[tuple[str, str | None]] = []

        def note(_: int, kind: str, written: str | None) -> None:
            seen.append((kind, written))

        def child(tell: Callable[[str], None]) -> None:
            sizes: dict[str, int] = {}
            saver = _prepared(Path(folder), scenario)
            _watch(note)
            count = os.fsync

            def fsync(fd: Any) -> None:
                count(fd)
                opened = [written for kind, written in seen if kind == "open"]
                if opened[-1] is not None:
                    sizes[opened[-1]] = os.fstat(fd).st_size

            os.fsync = fsync
            for step, number in _SCENARIOS[scenario][1]:
                getattr(saver, step)(number)
                tell(json.dumps([(kind, sizes.get(written or "", 0)) for kind, written in seen]))
                seen.clear()

        reported, _ = _fork(child)
    return [(kind, size) for line in reported for kind, size in json.loads(line)]


def _try(point: Point, fault: Callable[[Point], None]) -> Outcome:
    """Stops a process of its own at a point, and looks at what it has left."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "checkpoints"

        def child(tell: Callable[[str], None]) -> None:
            saver = _prepared(folder, point.scenario)

            def stop(call: int, _: str, __: str | None) -> None:
                if call == point.call:
                    fault(point)

            _watch(stop)
            for step, number in _SCENARIOS[point.scenario][1]:
                try:
                    getattr(saver, step)(number)
                    tell(f"{step} {number}")
                except OSError:
                    _lift_limit()

        reported, status = _fork(child)
        stopped = -status in (signal.SIGKILL, signal.SIGXFSZ) if fault is _kill else status == 0
        if not stopped:
            return Outcome(f"the process ended with status {status}", new=False)
        try:
            return Outcome(None, _look(folder, point.scenario, reported))
        except (Lost, UserError, OSError) as error:
            return Outcome(f"{type(error).__name__}: {error}", new=False)


def _look(folder: Path, scenario: str, reported: Sequence[str]) -> bool:
    """Whether the newest checkpoint is of a save that had not returned.

    Raises Lost, or what loading and saving raise, if anything is lost or left over.
    """
    before, during = _SCENARIOS[scenario]
    saver = _Saver(folder)
    new = False
    for step in ("save", "save_best"):
        returned = [number for each, number in before if each == step]
        returned += [int(line.split()[1]) for line in reported if line.split()[0] == step]
        begun = [number for each, number in during if each == step and number > max(returned, default=0)]
        paths = saver.store.all() if step == "save" else [path for path in [saver.store.best()] if path]
        found = [_number_in(saver.store, path) for path in paths]
        newest = found[-1] if found else 0
        _expect(newest in {max(returned, default=0), *begun[:1]}, f"{step}: {found} after {returned}")
        new |= newest in begun
    saver.save(9)
    saver.save_best(9)
    left = sorted(path.name for path in folder.iterdir())
    _expect(_number_in(saver.store, saver.store.all()[-1]) == 9, "the next save is not the newest")
    _expect(len(saver.store.all()) <= KEEP and len(left) == len(saver.store.all()) + 1, f"left over: {left}")
    return new


def _number_in(store: CheckpointStore, path: Path) -> int:
    """Loads a checkpoint and makes sure that it is one of ours, whole."""
    checkpoint = store.load(path)
    number = int(checkpoint.state["number"])
    weights, state = _content(number)
    _expect(checkpoint.state == state, f"{path}: another state")
    _expect(np.array_equal(checkpoint.tensors["weights"], weights["weights"]), f"{path}: other weights")
    for saved in checkpoint.replay.values():
        layout = Layout(_SPEC)
        rows = Rows(layout, bytearray(layout.memory_bytes(_CAPACITY)), _CAPACITY)
        restore(rows, saved.index, saved.chunks())
        held = np.arange(max(1, rows.head - _CAPACITY + 1), rows.head + 1)
        _expect(rows.head == number * _ROWS_A_SAVE, f"{path}: {rows.head} rows")
        _expect(np.array_equal(rows.gather(held, ("reward",))[0], held.astype(np.float32)), f"{path}: other rows")
    return number


def _expect(condition: object, otherwise: str) -> None:
    if not condition:
        raise Lost(otherwise)


def _prepared(folder: Path, scenario: str) -> _Saver:
    """A saver with what was saved before, and with what an earlier kill has left."""
    saver = _Saver(folder)
    for step, number in _SCENARIOS[scenario][0]:
        getattr(saver, step)(number)
    if _SCENARIOS[scenario][0]:
        (folder / ".aside-new").mkdir()
        (folder / ".aside-new" / "tensors.safetensors").write_bytes(b"half")
    return saver


def _watch(see: Callable[[int, str, str | None], None]) -> None:
    """From now on shows `see` each call of this process: its number, its kind, and the file that it opens to write."""
    calls = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal calls
        if event not in _CALLS:
            return
        writes = event == "open" and bool(arguments[2] & os.O_WRONLY)
        calls += 1
        see(calls - 1, event, str(arguments[0]) if writes else None)

    def fsync(fd: Any) -> None:
        nonlocal calls
        calls += 1
        see(calls - 1, "fsync", None)

    os.fsync = fsync
    sys.addaudithook(hook)


def _kill(point: Point) -> None:
    """Ends this process at once, or lets the kernel do so once it has written so much."""
    if point.bytes is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        _limit(point.bytes)


def _refuse(point: Point) -> None:
    """Fails as a full or broken disk does; the kernel's own error once so much is written."""
    if point.bytes is None:
        raise OSError(_ERRORS[point.call % len(_ERRORS)], "made up")
    _limit(point.bytes)  # Python ignores the signal, so it is an error


_FAULTS: dict[str, Callable[[Point], None]] = {"kills": _kill, "disk_errors": _refuse}


def _limit(size: int) -> None:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _lift_limit() -> None:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _fork(child: Callable[[Callable[[str], None]], None]) -> tuple[list[str], int]:
    """Runs `child` in a process of its own: the lines that it told, and its exit status or minus its signal."""
    out, into = os.pipe()
    process = os.fork()
    if not process:
        status = 1
        try:
            child(lambda line: _tell(into, line))
            status = 0
        finally:
            os._exit(status)
    os.close(into)
    with os.fdopen(out) as lines:
        reported = lines.read().splitlines()
    return reported, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _tell(into: int, line: str) -> None:
    os.write(into, f"{line}\n".encode())


def _content(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"weights": np.full(500, number, np.float32)}, {"number": number, "words": "of a state " * 20}


def _append(writer: Writer) -> None:
    """A step of agents whose episodes do not end; rows earn their numbers."""
    numbers = np.arange(writer.rows.head + 1, writer.rows.head + 1 + _AGENTS)
    none = np.zeros((_AGENTS, 0), np.float32)
    writer.append(
        agent=np.arange(_AGENTS),
        observations=(np.repeat(numbers[:, None], 8, 1),),
        mask=none.astype(bool),
        continuous=none,
        discrete=np.ones((_AGENTS, 1), np.int32),
        log_prob=np.zeros(_AGENTS, np.float32),
        version=1,
        reward=numbers.astype(np.float32),
        terminated=np.zeros(_AGENTS, bool),
        truncated=np.zeros(_AGENTS, bool),
        final_observations=(np.zeros((0, 8), np.float32),),
        final_mask=np.zeros((0, 0), bool),
    )


def _text(result: dict[str, Any]) -> str:
    tried = [name for name in _FAULTS if name in result]
    rows = [[name, *(result[name][key] for key in ("points", "whole", "newest_is_the_one_begun"))] for name in tried]
    problems = [problem for name in tried for problem in result[name]["problems"]]
    shown = table(["", "points", "whole afterwards", "newest is the one begun"], rows)
    kinds = ", ".join(f"{kind} {count}" for kind, count in result[tried[0]]["by_kind"].items())
    return "\n".join([machine_line(), "", shown, f"points by call: {kinds}", *problems])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.stress.checkpoint_kills", description="Kills while saving.")
    parser.add_argument("--only", nargs="+", choices=_FAULTS, help="one kind of fault (all)")
    parser.add_argument("--every", type=int, default=1, help="try one of so many points (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
