"""`python -m benchmarks.acting --cells none lstm gru --json`: samples a second of a policy that acts.

The collector that a run uses, in this process, with a policy that nobody trains: environments that do not wait (law
`none`: CartPole-v1), in one run and in turns. What is measured is our side of a sample: acting, and writing its row.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np

from algorithms.numpy_policy import NumpyActor
from algorithms.policy import Acted, Policy
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from benchmarks.ours import Ours, Watched
from benchmarks.report import machine, machine_line, table
from benchmarks.tasks import LAWS, Task
from buffers.rows import Layout, Rows, Writer
from envs.gym.adapter import GymEnv
from envs.spec import Array, BehaviorSpec, UserError
from trainer.runtime.collector import Channel
from trainer.runtime.ipc import COUNTERS, SPAWN

_CAPACITY = 100_000  # rows


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        for name in ("instances", "units", "rounds", "seconds"):
            if not getattr(options, name) > 0:
                raise UserError(f"--{name} {getattr(options, name)} must be above 0")
    except UserError as error:
        print(f"acting: {error}", file=sys.stderr)
        return 2
    rates = contest(options)
    result = {
        "law": "none",
        "instances": options.instances,
        "units": options.units,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "machine": machine(),
        "samples_per_second": rates,
    }
    if "none" in rates:
        result["over_none"] = {cell: rate / rates["none"] for cell, rate in rates.items()}
    print(json.dumps(result) if options.json else _text(result))
    return 0


def contest(options: argparse.Namespace) -> dict[str, float]:
    """Lets policies with each memory act in turns; samples a second by its name."""
    samples, seconds = dict.fromkeys(options.cells, 0), dict.fromkeys(options.cells, 0.0)
    task = Task(GymEnv(LAWS["none"].id, {}, time_scale=0.0), options.instances, 0)
    with ExitStack() as stack:
        contenders = {cell: Acting(task, Cell[cell], options.units) for cell in options.cells}
        for contender in contenders.values():
            contender.start()
            stack.callback(contender.close)
        for _ in range(options.rounds):
            for cell, contender in contenders.items():
                played = contender.round(options.seconds / options.rounds)
                samples[cell] += played.samples
                seconds[cell] += played.seconds
    return {cell: samples[cell] / seconds[cell] for cell in options.cells}


class Acting(Ours):
    """Ours, with a policy of one hidden layer before its memory, if it has any, and two if it has none."""

    def __init__(self, task: Task, cell: Cell, units: int) -> None:
        super().__init__(task, lockstep=False)
        hidden = [units] if cell is not Cell["none"] else [units, units]
        self._network = NetworkSettings(hidden, memory=MemorySettings(cell, units))

    def _open_channel(self, spec: BehaviorSpec) -> Channel:
        policy = Policy(spec, self._network, "ppo")
        layout = Layout(spec, policy.state_size)
        self._rows = Rows(layout, SPAWN.RawArray("B", layout.memory_bytes(_CAPACITY)), _CAPACITY)
        return Channel(spec, _Actor(policy, self._watched), Writer(self._rows), np.zeros(COUNTERS, np.int64))


class _Actor:
    """A policy's copy that stays as it is."""

    version = 1

    def __init__(self, policy: Policy, watched: Watched) -> None:
        self._numpy, self._watched, self._generator = NumpyActor(policy), watched, np.random.default_rng(0)

    def refresh(self) -> None:
        """Nothing to take."""

    def act(self, observations: tuple[Array, ...], mask: Array, state: Array) -> Acted:
        """As in a run."""
        self._watched.take_waiting()
        return self._numpy.act(observations, mask, state, self._generator)

    def state(self) -> Any:
        """Nothing: benchmarks do not resume."""
        return None


def _text(result: dict[str, Any]) -> str:
    rates, over = result["samples_per_second"], result.get("over_none", {})
    title = (
        f"law none, {result['instances']} instances, {result['units']} units a layer, "
        f"{result['seconds']:g} s each in {result['rounds']} rounds"
    )
    rows = [[cell, rate, over.get(cell)] for cell, rate in rates.items()]
    return f"{title}\n{machine_line()}\n\n{table(['memory', 'samples/s', 'x none'], rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.acting", description="Samples a second of acting policies.")
    cells = [each.name for each in Cell]
    parser.add_argument("--cells", nargs="+", choices=cells, default=cells, help="memories of the policies (all)")
    parser.add_argument("--instances", type=int, default=16, help="running environments (16)")
    parser.add_argument("--units", type=int, default=64, help="of each layer, the recurrent one too (64)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds for each in all (20)")
    parser.add_argument("--rounds", type=int, default=4, help="turns that each one's seconds are cut into (4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
