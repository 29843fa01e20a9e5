"""The learners of a run beside the first one: processes in which gradients of parts of batches are computed.

No torch at the top, so that they start before the first learner has imported it.

The first learner passes on by pipes what there is to learn from; gradients are added up by gloo, over connections
that no other machine can reach. Which process has ended is known at once, at both ends of either.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from buffers.rows import Layout, Rows
from envs.process.lifetime import described_end, end_process, start_following
from envs.spec import BehaviorSpec
from trainer.config.schema import TrainConfig, settings_of
from trainer.demos.load import load_demos
from trainer.runtime.collector_process import one_thread
from trainer.runtime.device import one_torch_thread
from trainer.runtime.ipc import SPAWN
from trainer.telemetry.console import log

if TYPE_CHECKING:
    from torch import Tensor

    from algorithms.base import Algorithm
    from algorithms.ranks import Given

SILENT_SECONDS = 120
"""A learner that has not added its part so long after the first one, or does not read, is given up."""
LOOK_SECONDS = 1.0
"""So long a wait lasts before signals are handled."""
_END_SECONDS = 1.0


class Learners:
    """The other learners of a run. One that ends is not replaced: the first goes on alone, with the same results."""

    def __init__(self, config: TrainConfig) -> None:
        self.size = config.learners
        self._processes, self._pipes = [], []
        for rank in range(1, self.size):
            pipe, theirs = SPAWN.Pipe()
            with one_thread():
                self._processes.append(start_following(f"learner {rank}", follow, config, rank, theirs))
            theirs.close()
            if os.name == "posix":  # else a learner that has stopped reading would be waited for without end
                with socket.socket(fileno=os.dup(pipe.fileno())) as end:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SILENT_SECONDS, 0))
            self._pipes.append(pipe)
        self._add_up: Callable[[Tensor], None] | None = None

    def share(self, algorithm: Algorithm) -> None:
        """Lets the algorithm of a behavior make its gradient steps with all learners."""
        if self._pipes:  # else they have ended
            algorithm.share(_Leading(self, algorithm.spec))

    def send(self, content: Any) -> None:
        """Sends something to all; LearnerLost if one has ended."""
        if self._add_up is None:
            self._add_up = self._unless_ended(self._join)
        self._unless_ended(lambda: send(content, self._pipes))

    def add_up(self, numbers: Tensor) -> None:
        """Adds up numbers over all learners, in place; LearnerLost if one has ended."""
        self._unless_ended(lambda: self._add_up and self._add_up(numbers))

    def close(self) -> None:
        """Ends them."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            end_process(process)
        self._pipes, self._processes, self._add_up = [], [], None

    def _join(self) -> Callable[[Tensor], None]:
        """Connects all learners, once they have imported torch."""
        for pipe in self._pipes:
            if not pipe.poll(SILENT_SECONDS):
                raise TimeoutError
            pipe.recv()
        with tempfile.TemporaryDirectory() as folder:
            for pipe in self._pipes:
                pipe.send(folder)
            return connected(folder, 0, self.size)

    def _unless_ended(self, call: Callable[[], Any]) -> Any:
        """Calls it. If a learner has ended, ends the others, too, says so, and raises LearnerLost."""
        from algorithms.ranks import LearnerLost

        try:
            if not self._pipes:
                raise EOFError
            return call()
        except (EOFError, OSError, RuntimeError) as error:
            for process in self._processes:
                process.join(_END_SECONDS)
            ends = [f"learner {i}: {described_end(p.exitcode)}" for i, p in enumerate(self._processes, 1) if p.exitcode]
            if self._pipes:
                reason = "; ".join(ends) or f"none has answered within {SILENT_SECONDS:g} s"
                log.warning(f"A learner was lost ({reason}). The run goes on with one, which gives the same results.")
            self.close()
            raise LearnerLost from error


class _Leading:
    """The learners of one behavior, as the first sees them."""

    rank = 0

    def __init__(self, learners: Learners, spec: BehaviorSpec) -> None:
        self._learners, self._spec, self.size = learners, spec, learners.size
        self._is_known = False
        self.add_up = learners.add_up

    def send(self, given: Given) -> None:
        """Passes on what to learn from."""
        spec = None if self._is_known else self._spec.to_dict()
        self._learners.send((self._spec.name, spec, arrays(given)))
        self._is_known = True


class _Following:
    """The learners of one behavior, as another one sees them."""

    def __init__(self, rank: int, size: int, add_up: Callable[[Tensor], None]) -> None:
        self.rank, self.size, self.add_up = rank, size, add_up

    def send(self, given: Given) -> None:
        """Is the first learner's to do."""
        raise NotImplementedError


def follow(config: TrainConfig, rank: int, pipe: Connection) -> None:
    """Computes gradients until the first learner ends: the main function of another learner's process."""
    from algorithms.ranks import Given, LearnerLost

    with one_torch_thread(), suppress(EOFError, OSError, LearnerLost):
        pipe.send("ready")
        ranks = _Following(rank, config.learners, connected(pipe.recv(), rank, config.learners))
        algorithms: dict[str, Algorithm] = {}
        while True:
            name, spec, given = receive(pipe)
            if name not in algorithms:
                algorithms[name] = _made(config, BehaviorSpec.from_dict(spec))
                algorithms[name].share(ranks)
            algorithms[name].follow(Given(*tensors(given)))


def _made(config: TrainConfig, spec: BehaviorSpec) -> Algorithm:
    """Makes the algorithm of a behavior, which gets no rows of its own. What is cloned, the first learner clones."""
    import torch

    from algorithms.base import make_algorithm
    from algorithms.policy import make_policy

    settings, rewards = settings_of(config, spec.name)
    layout = Layout(spec, make_policy(spec, settings).state_size, settings.own().mates)
    capacity = settings.min_rows()
    memory = np.zeros(layout.memory_bytes(capacity), np.uint8)  # takes none until it is written
    demos, _ = load_demos(config, spec)
    rows = Rows(layout, memory.data, capacity)
    made = make_algorithm(spec, settings, rows, torch.device("cpu"), config.seed, rewards, demos)
    made.cloning = None
    return made


def connected(folder: str, rank: int, size: int) -> Callable[[Tensor], None]:
    """Connects learners that name the same empty folder; returns what adds up numbers over all, in place.

    A learner other than the first waits for it without end: it ends with that.
    """
    import torch
    from torch import distributed
    from torch.distributed import distributed_c10d

    store: Any = vars(distributed)["FileStore"]
    # Not `init_process_group`: there is one of these in a process, and it may be the user's.
    gloo: Any = distributed_c10d.ProcessGroupGloo
    options = gloo._Options()
    options._timeout = timedelta(days=1)
    # Else it takes an address that others may reach, or finds none where the machine's name has none.
    options._devices = [gloo.create_device(hostname="127.0.0.1")]
    group = gloo(store(str(Path(folder, "store")), size), rank, size, options)

    def add_up(numbers: Tensor) -> None:
        work, start = group.allreduce([numbers]), time.monotonic()
        while not work.is_completed():  # signals are handled only between two waits
            with suppress(RuntimeError):  # it takes longer, or has failed
                work.wait(timedelta(seconds=LOOK_SECONDS))
            if not rank and time.monotonic() > start + SILENT_SECONDS:
                raise TimeoutError
        work.wait()

    add_up(torch.zeros(1))  # all are connected by now: nobody looks into the folder any more
    return add_up


def send(content: Any, pipes: Sequence[Connection]) -> None:
    """Sends something to `receive`. Its arrays are copied nowhere before they are written."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(content, 5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    for pipe in pipes:
        pipe.send((head, [part.nbytes for part in raw]))
        for part in raw:
            if part.nbytes:
                pipe.send_bytes(part)


def receive(pipe: Connection) -> Any:
    """Returns what was sent by `send`."""
    head, sizes = pipe.recv()
    buffers = [np.empty(size, np.uint8) for size in sizes]
    for buffer in buffers:
        if buffer.nbytes:
            pipe.recv_bytes_into(buffer)
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - of the process that started this one


def arrays(tree: Any) -> Any:
    """Returns tensors in tuples as arrays: tensors would be passed on through shared memory, one file for each."""
    import torch

    return _each(tree, torch.Tensor, lambda tensor: tensor.detach().cpu().numpy())


def tensors(tree: Any) -> Any:
    """Returns arrays in tuples as tensors."""
    import torch

    return _each(tree, np.ndarray, torch.from_numpy)


def _each(tree: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    if isinstance(tree, kind):
        return convert(tree)
    if not isinstance(tree, tuple):
        return tree
    parts = [_each(part, kind, convert) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
