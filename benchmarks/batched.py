"""`python -m benchmarks.batched --json`: samples a second in our buffer, of single environments and of batches.

The collector that a run uses, in this process, with random actions and a real buffer. Contenders take turns, so that a
busy machine is busy for all: `gym` (CartPole-v1 of Gymnasium, one by one), `gymnasium` (its own vector form of it) and
`envpool`, which is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, machine_line, table
from buffers.rows import Layout, Rows, Writer
from envs.api import Setup
from envs.gym.config import GymConfig, PooledConfig
from envs.spec import Array, BehaviorSpec, UserError
from envs.vector.config import VectorConfig
from trainer.runtime.collector import Channel, Collector
from trainer.runtime.ipc import COUNTERS, SPAWN
from trainer.runtime.rate_limiter import RateLimiter

_CAPACITY = 100_000  # rows
_NO_LEARNER = RateLimiter(updates_per_sample=1.0, start_samples=2**62, tolerance=1.0)  # never holds games back
_KEPT = 1000


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        for name in ("instances", "rounds", "seconds"):
            if not getattr(options, name) > 0:
                raise UserError(f"--{name} {getattr(options, name)} must be above 0")
    except UserError as error:
        print(f"batched: {error}", file=sys.stderr)
        return 2
    rates = contest(options)
    result = {
        "instances": options.instances,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "machine": machine(),
        "samples_per_second": rates,
        "over_gym": {name: rate / rates["gym"] for name, rate in rates.items()},
    }
    print(json.dumps(result) if options.json else _text(result))
    return 0


def contest(options: argparse.Namespace) -> dict[str, float]:
    """Lets all collect in turns; samples a second by name."""
    count = options.instances
    configs: dict[str, PooledConfig] = {"gym": GymConfig(count, 0, id="CartPole-v1")}
    for name in ("gymnasium", "envpool") if find_spec("envpool") else ("gymnasium",):
        configs[name] = VectorConfig(count, vector=f"{name}:CartPole-v1")
    samples, seconds = dict.fromkeys(configs, 0), dict.fromkeys(configs, 0.0)
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(_Collecting(config)) for name, config in configs.items()}
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                more, taken = contender.round(options.seconds / options.rounds)
                samples[name] += more
                seconds[name] += taken
    return {name: samples[name] / seconds[name] for name in configs}


class _Collecting(ExitStack):
    """A collector with a buffer of its own."""

    def __init__(self, config: PooledConfig) -> None:
        super().__init__()
        manager = self.enter_context(config.make_manager(Setup(1, Path())))
        (name,) = manager.start()
        self._collector = Collector(manager, self._open_channel)
        self._channel = self._collector.channel(name)

    def round(self, seconds: float) -> tuple[int, float]:
        """Collects for so long; the samples, and the seconds that it took."""
        self._channel.rate_limiter = _NO_LEARNER
        self._collector.turn(None)
        before, start = self._rows.samples, time.perf_counter()
        while (left := start + seconds - time.perf_counter()) > 0:
            self._collector.turn(left)
            if len(self._channel.episodes) > _KEPT:
                self._channel.episodes.clear()
        return self._rows.samples - before, time.perf_counter() - start

    def _open_channel(self, spec: BehaviorSpec) -> Channel:
        layout = Layout(spec)
        self._rows = Rows(layout, SPAWN.RawArray("B", layout.memory_bytes(_CAPACITY)), _CAPACITY)
        return Channel(spec, _RandomActor(spec), Writer(self._rows), np.zeros(COUNTERS, np.int64))


class _RandomActor:
    """Acts by chance."""

    version = 0

    def __init__(self, spec: BehaviorSpec) -> None:
        self._choices, self._rng = spec.branches[0], np.random.default_rng(0)

    def refresh(self) -> None:
        """Nothing to take."""

    def act(self, observations: tuple[Array, ...], mask: Array, state: Array) -> tuple[Array, Array, Array, Array]:
        count = len(observations[0])
        discrete = self._rng.integers(self._choices, size=(count, 1), dtype=np.int32)
        return np.empty((count, 0), np.float32), discrete, np.zeros(count, np.float32), state

    def state(self) -> Any:
        """Nothing: benchmarks do not resume."""
        return None


def _text(result: dict[str, Any]) -> str:
    rates, over = result["samples_per_second"], result["over_gym"]
    rows = [(name, f"{rate:,.0f}", f"{over[name]:.2f}") for name, rate in rates.items()]
    head = f"CartPole-v1, {result['instances']} instances, {result['seconds']:g} s each. {machine_line()}"
    return f"{head}\n\n{table(('environments', 'samples/s', 'over gym'), rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batched", description=(__doc__ or "").partition("\n")[2]
    )
    parser.add_argument("--instances", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="turns that each takes")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each in all")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
