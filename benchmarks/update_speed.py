"""`python -m benchmarks.update_speed --json`: how fast SAC and PPO learn, against Stable-Baselines3 if it is installed.

Both sides learn from the same random steps (17 observed numbers, 6 continuous actions, 8 agents), with networks of the
same layers and ReLUs, the same batches and the same settings, in turns in this process, with one torch thread; on the
CPU, and on a GPU where there is one. Timed is learning alone: drawing batches, moving them, gradient steps, targets.
Games, acting, writing rows, publishing weights and showing metrics are left out on both sides.

SAC: `SAC.update()` against `SAC.train()`, of which each call makes 20 updates, so that its logging costs little; the
textbook cases leave its accelerator out (`algorithm.accelerate=false`).
PPO: `PPO.update()` on a new rollout against `PPO.train()` on a filled rollout buffer; a sample counts once, however
often it is passed over. Each side learns in its own way. Within an update, ours also evaluates the rollout's values,
log-probabilities, advantages and targets, which theirs is given; ours normalises observations and leaves out steps that
are not finite, and its SAC critics have layer norm. Theirs reads its losses after every gradient step, and PPO's
normalises advantages for each minibatch.

Operations are those that torch dispatches for a gradient step, views among them; what comes once an update or now and
then is shared out. Synchronisations are those of them that wait for the device: a number on it is read, or a copy goes
from a GPU to the host. `draw` is what it costs, on the CPU, to draw 256 rows of 64 numbers with 3-step returns from our
replay. `memory`, where there is a GPU, is the most device memory that the default experiments' runs took.

On a GPU ours replays an update as one graph; theirs, like ours with `--compile`, launches its operations one by one.
`--compile` hands our SAC's update to `torch.compile`, to see whether that helps.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from benchmarks.report import machine, machine_line, table
from benchmarks.update_contenders import AGENTS, REPLAY_ROWS, Contender, Settings, contenders, filled_rows, random_data
from buffers.replay import Replay
from envs.spec import UserError
from trainer.__main__ import main as train

CASES: dict[str, Settings] = {
    "sac_64": SACSettings(network=NetworkSettings([64, 64]), batch_size=64),
    "sac_256": SACSettings(network=NetworkSettings([256, 256]), batch_size=256),
    "sac_64_textbook": SACSettings(network=NetworkSettings([64, 64]), batch_size=64, accelerate=False),
    "sac_256_textbook": SACSettings(network=NetworkSettings([256, 256]), batch_size=256, accelerate=False),
    "ppo_64": PPOSettings(network=NetworkSettings([64, 64]), rollout_size=2048, minibatch_size=64, epochs=10),
}
DRAW, MEMORY = "draw", "memory"
EXPERIMENTS = ("basic_ppo", "basic_sac", "snoopy_ppo", "snoopy_sac")
_UNITS = {"sac": "updates", "ppo": "samples"}
_DRAWN, _DRAWN_NUMBERS, _DRAWN_STEPS = 256, 64, 3
_DRAWS = 50  # between two looks at the clock
_SHORT = ("run.mode=inline", "run.picture_minutes=0", "stop.samples=800")


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    try:
        for name in ("seconds", "rounds"):
            if not getattr(options, name) > 0:
                raise UserError(f"--{name} {getattr(options, name):g} must be above 0")
    except UserError as error:
        print(f"update_speed: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    result: dict[str, Any] = {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "machine": machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cases": [
            {"case": name, **contest(CASES[name], device, options.rounds, options.seconds, options.compile)}
            for name in options.cases
            if name in CASES
            for device in devices
        ],
    }
    if DRAW in options.cases:
        result[DRAW] = draw_microseconds(options.rounds, options.seconds)
    if MEMORY in options.cases and torch.cuda.is_available():
        result[MEMORY] = {name: device_mib(name, "cuda") for name in EXPERIMENTS}
    print(json.dumps(result) if options.json else _text(result))
    return 0


def contest(settings: Settings, device: str, rounds: int, seconds: float, compiled: bool = False) -> dict[str, Any]:
    """Lets both sides learn on `device` in turns, for `seconds` each in all; figures of both, and their ratio."""
    sides = contenders(settings, device, compiled)
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for contender in sides.values():
        contender.refill()
        contender.learn()  # what is made at the first update is made now
    for _ in range(rounds):
        for side, contender in sides.items():
            rates[side].append(rate(contender, device, seconds / rounds))
    figures: dict[str, Any] = {"device": device, "unit": _UNITS[settings.name], "theirs": None, "ratio": None}
    for side, contender in sides.items():
        figures[side] = {"per_second": median(rates[side]), "rounds": rates[side], **_dispatched(contender, device)}
    if "theirs" in sides:
        figures["ratio"] = _spread([ours / theirs for ours, theirs in zip(rates["ours"], rates["theirs"])])
    return figures


def rate(contender: Contender, device: str, seconds: float) -> float:
    """Lets one side learn on `device` for `seconds`; returns its updates or samples a second."""
    units, busy = 0, 0.0
    while busy < seconds:
        contender.refill()
        _wait_for(device)
        start = time.perf_counter()
        units += contender.learn()
        _wait_for(device)
        busy += time.perf_counter() - start
    return units / busy


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def draw_microseconds(rounds: int, seconds: float) -> dict[str, float]:
    """Microseconds of one draw of 256 rows of 64 numbers with 3-step returns: median, least and most of the rounds."""
    replay = Replay(filled_rows(random_data(REPLAY_ROWS // AGENTS, (_DRAWN_NUMBERS,))))
    rng = np.random.default_rng(0)
    costs = []
    for _ in range(rounds):
        draws, busy = 0, 0.0
        while busy < seconds / rounds:
            start = time.perf_counter()
            for _ in range(_DRAWS):
                replay.sample(rng, _DRAWN, _DRAWN_STEPS, 0.99)
            busy += time.perf_counter() - start
            draws += _DRAWS
        costs.append(busy / draws * 1e6)
    return _spread(costs)


def device_mib(experiment: str, device: str) -> float:
    """The most MiB of the GPU that tensors took in a short run of an experiment."""
    return run_mib([f"+experiment={experiment}"], device)


def run_mib(overrides: Sequence[str], device: str) -> float:
    """The same of a short run of any configuration."""
    gc.collect()  # an algorithm and its graph hold each other
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        status = train([*overrides, *_SHORT, f"device={device}", f"run.dir={folder}"])
    if status:
        raise RuntimeError(f"{' '.join(overrides)} ended with status {status}")
    return torch.cuda.max_memory_allocated() / 2**20


def _dispatched(contender: Contender, device: str) -> dict[str, float]:
    """Operations and synchronisations of a gradient step: those of a call of `learn`, divided by its steps."""
    contender.refill()
    with _Dispatched(device) as counts:
        contender.learn()
    steps = contender.gradient_steps
    return {"operations": counts.operations / steps, "synchronisations": counts.synchronisations / steps}


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, and those of them that wait for the device."""

    def __init__(self, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.operations = self.synchronisations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.operations += 1
        self.synchronisations += self._waits(function.overloadpacket, args, result)
        return result

    def _waits(self, operation: Any, args: Any, result: Any) -> bool:
        if operation is torch.ops.aten._local_scalar_dense:
            return bool(args[0].device.type == self._device)
        if operation is torch.ops.aten._to_copy:
            return _leaves_gpu(args[0], result)
        return operation is torch.ops.aten.copy_ and _leaves_gpu(args[1], args[0])


def _leaves_gpu(source: Tensor, target: Tensor) -> bool:
    return source.is_cuda and not target.is_cuda


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def _text(result: dict[str, Any]) -> str:
    title = f"{result['seconds']:g} s each in {result['rounds']} rounds, one torch thread"
    lines = [title, machine_line() + (f", {result['gpu']}" if result["gpu"] else "")]
    if result["cases"]:
        lines += ["", table(_HEADER, [_row(case) for case in result["cases"]])]
    if DRAW in result:
        draw = result[DRAW]
        lines += ["", f"draw: {draw['median']:.0f} us ({draw['least']:.0f} to {draw['most']:.0f})"]
    for name, mib in result.get(MEMORY, {}).items():
        lines.append(f"{name}: at most {mib:.0f} MiB of the GPU")
    return "\n".join(lines)


_HEADER = ("case", "device", "unit", "ours/s", "theirs/s", "ratio", "least", "most", "operations", "synchronisations")


def _row(case: dict[str, Any]) -> list[object]:
    ours, theirs, ratio = case["ours"], case["theirs"] or {}, case["ratio"] or {}
    row = [case["case"], case["device"], case["unit"], ours["per_second"], theirs.get("per_second")]
    row += [ratio.get(key) for key in ("median", "least", "most")]
    return row + [_beside(ours, theirs, key) for key in ("operations", "synchronisations")]


def _beside(ours: dict[str, float], theirs: dict[str, float], key: str) -> str:
    """Of ours / of theirs."""
    return f"{ours[key]:.4g}" + (f" / {theirs[key]:.4g}" if theirs else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.update_speed", description="How fast algorithms learn.")
    names = [*CASES, DRAW, MEMORY]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, help="what is measured (all)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds for each side of a case in all (10)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each side's seconds are cut into (5)")
    parser.add_argument("--compile", action="store_true", help="our SAC's update through torch.compile")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
