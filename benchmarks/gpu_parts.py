"""What `benchmarks.gpu` measures, a function a part: it yields rows, each figures by name and what falls short.

A part runs in a process of its own (`isolated.py`), so all that it needs is imported and set up there.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from algorithms.ops.adam import _can_fuse
from algorithms.ops.cuda_graph import Graphed
from algorithms.policy import Policy
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.settings import SACSettings
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from benchmarks import training
from benchmarks.update_contenders import ACTIONS, NUMBERS, PIXELS, OurPPO, OurSAC, Settings, ours, theirs
from benchmarks.update_speed import rate, run_mib
from envs.spec import BehaviorSpec, ObservationSpec
from trainer.runtime.actor import PolicyActor
from trainer.runtime.device import gpu_trouble
from trainer.runtime.policy_store import PolicyReader, weights_bytes

Row = dict[str, Any]
"""Figures by the heading of their column; `SHORT` says in a sentence what falls short, None if nothing does."""
SHORT = "short"
LARGEST_DIFFERENCE = 1e-4
LEAST_RATIO = 4.0
"""Of updates over Stable-Baselines3's."""
MOST_MIB = 4096.0
LEAST_ACHIEVED = 0.9
"""Share of the updates that a run asks for."""


def card() -> Iterator[Row]:
    """What the card is, and whether torch can compute on it."""
    major, minor = torch.cuda.get_device_capability()
    trouble = gpu_trouble()
    yield {
        "card": torch.cuda.get_device_name(),
        "MiB": torch.cuda.get_device_properties(0).total_memory // 2**20,
        "compute capability": f"{major}.{minor}",
        "driver": _driver(),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "cuDNN": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "fused Adam": "yes" if trouble is None and _can_fuse(torch.device(DEVICE)) else "no",
        SHORT: None if trouble is None else f"torch {torch.__version__} {trouble}",
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.split()[0] if found.split() else None


def graphs() -> Iterator[Row]:
    """Whether updates are captured, and replayed give the numbers of plain ones: same batches, same start."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # products are then the same in every stream
    torch.backends.cudnn.deterministic = True
    for name, (settings, shape, branches) in GRAPHED.items():
        yield _compared(name, *(ours(settings, DEVICE, shape, branches) for _ in range(2)))


def _compared(name: str, replayed: OurSAC | OurPPO, plain: OurSAC | OurPPO) -> Row:
    plain.launch()
    for _ in range(2):
        for each in (replayed, plain):
            each.refill()
            each.learn()
    weights, expected = replayed.algorithm.weights(), plain.algorithm.weights()
    difference = max(float((weights[key] - x).abs().max()) for key, x in expected.items() if x.numel())
    graphed = replayed.algorithm._replayed
    captured = isinstance(graphed, Graphed) and graphed.captured
    short = None if captured else "is not captured"
    if not difference <= LARGEST_DIFFERENCE:
        short = f"differs from plain calls by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}"
    return {
        "update": name,
        "captured": "yes" if captured else "no",
        "gradient steps": 2 * replayed.gradient_steps,
        "largest difference of a weight": difference,
        SHORT: short and f"{name} {short}",
    }


def updates() -> Iterator[Row]:
    """Updates (SAC) or samples (PPO) a second: launched one by one, replayed, and Stable-Baselines3's."""
    installed = find_spec("stable_baselines3") is not None
    for name, (settings, shape) in RATES.items():
        replayed, launched = (ours(settings, DEVICE, shape) for _ in range(2))
        launched.launch()
        rates = [_learning_rate(side) for side in (launched, replayed)]
        others = _learning_rate(theirs(settings, DEVICE, shape)) if installed else None
        ratio = None if others is None else rates[1] / others
        short = None
        if ratio is None:
            short = f"{name} is compared with nothing: Stable-Baselines3 is not installed"
        elif ratio < LEAST_RATIO:
            short = f"{name} is {ratio:.2f} x as fast as Stable-Baselines3, {LEAST_RATIO:g} x are asked"
        yield {
            "case": name,
            "unit": "updates" if settings.name == "sac" else "samples",
            "launched/s": rates[0],
            "replayed/s": rates[1],
            "Stable-Baselines3/s": others,
            "replayed over launched": rates[1] / rates[0],
            "over Stable-Baselines3": ratio,
            SHORT: short,
        }


def _learning_rate(side: Any) -> float:
    side.refill()
    side.learn()  # what is made, tuned and captured at the first updates is made now
    return rate(side, DEVICE, SECONDS)


def acting() -> Iterator[Row]:
    """What a pass of a policy takes on the CPU and on the GPU, and whether both do the same."""
    for name, (network, observation) in ACTING.items():
        spec = BehaviorSpec("random", (observation,), ACTIONS)
        image = len(observation.shape) == 3
        on_cpu, on_gpu = _actor(_policy(spec, network), None), _actor(_policy(spec, network), torch.device(DEVICE))
        for rows in (1, 16, 128) if image else (1, 16, 128, 1024):
            on_gpu.pass_seconds(rows)  # libraries choose what they use for these sizes
            seconds = [each.pass_seconds(rows) for each in (on_cpu, on_gpu)]
            difference = _acting_difference(spec, network, rows)
            short = None
            if not difference <= LARGEST_DIFFERENCE * (10 if image else 1):  # cuDNN's products have 10 bits, TF32
                short = f"{name} acts otherwise on the GPU: actions differ by {difference:.2g}"
            yield {
                "policy": name,
                "agents": rows,
                "on the CPU by": on_cpu.where.split()[0],
                "CPU, ms": 1000 * seconds[0],
                "GPU, ms": 1000 * seconds[1],
                "quicker": "CPU" if seconds[0] <= seconds[1] else "GPU",
                "largest difference of an action": difference,
                SHORT: short,
            }


def _policy(spec: BehaviorSpec, network: NetworkSettings) -> Policy:
    torch.manual_seed(0)
    policy = Policy(spec, network, "sac")
    with torch.no_grad():
        policy.head.weight.mul_(100)  # at the start all actions are close to 0, and so would be all differences
    return policy


def _actor(policy: Policy, device: torch.device | None) -> PolicyActor:
    size = policy.flat.numel()
    return PolicyActor(policy, PolicyReader(memoryview(bytearray(weights_bytes(size))), size), 0, device)


def _acting_difference(spec: BehaviorSpec, network: NetworkSettings, rows: int) -> float:
    rng = np.random.default_rng(0)
    seen = spec.observations[0]
    observed = rng.integers(0, 256, (rows, *seen.shape)) if seen.dtype == "uint8" else rng.normal(size=(rows, NUMBERS))
    done = []
    for device in ("cpu", DEVICE):
        policy = _policy(spec, network)
        policy.move_to(policy.flat.to(device))
        nothing = np.zeros((rows, 0), np.float32)
        given = ([observed.astype(seen.dtype)], nothing.astype(bool), nothing)
        done.append(policy.act(*given, None, deterministic=True).continuous)
    return float(np.abs(done[0] - done[1]).max())


def memory() -> Iterator[Row]:
    """The most memory of the GPU that tensors take in short runs, and that torch holds for them; its context apart."""
    for name, overrides in MEMORY.items():
        tensors = run_mib(overrides, DEVICE)
        held = torch.cuda.max_memory_reserved() / 2**20
        short = f"{name} holds {held:,.0f} MiB of the GPU, {MOST_MIB:,.0f} are allowed" if held > MOST_MIB else None
        yield {"run": name, "MiB of tensors": tensors, "MiB held": held, SHORT: short}


def snoopy() -> Iterator[Row]:
    """The experiment `snoopy_sac` as users start it, until its goal."""
    yield _trained("snoopy_sac", ["+experiment=snoopy_sac", "stop.seconds=100"], "bubbles")


def pixels() -> Iterator[Row]:
    """A game of 84 x 84 x 4 pixels, with default settings, until it is nearly mastered."""
    goal = ["goal.metric=reward", "goal.at_least=14", "goal.window_samples=2000"]
    yield _trained("pixels", [*PIXEL_GAME, "algorithm=sac", *goal, "stop.seconds=80"], "reward")


def _trained(name: str, overrides: Sequence[str], metric: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        summary = training.train([*overrides, f"device={DEVICE}", "run.picture_minutes=0"], Path(folder) / "run")
    achieved = min(summary["updates_achieved"].values())
    short = []
    if summary["goal_seconds"] is None:
        short.append(f"does not reach its goal of {metric} in {summary['seconds']:.0f} s")
    if achieved < LEAST_ACHIEVED:
        short.append(f"makes {achieved:.2f} of its updates, {LEAST_ACHIEVED:g} are asked")
    return {
        "run": name,
        "seconds": summary["seconds"],
        "samples": summary["samples"],
        "samples/s": summary["samples_per_second"],
        "updates": sum(summary["updates"].values()),
        "updates achieved": achieved,
        "goal after, s": summary["goal_seconds"],
        "acting": "; ".join(summary["acting"].values()),
        SHORT: f"{name} {' and '.join(short)}" if short else None,
    }


def _sac(*hidden: int, **changed: Any) -> SACSettings:
    return SACSettings(network=NetworkSettings(list(hidden), encoder="nature"), batch_size=256, **changed)


def _ppo(*hidden: int, rollout: int = 2048, minibatch: int = 64, epochs: int = 10) -> PPOSettings:
    network = NetworkSettings(list(hidden), encoder="nature")
    return PPOSettings(network=network, rollout_size=rollout, minibatch_size=minibatch, epochs=epochs)


DEVICE = "cuda"
SECONDS = 3.0
"""For each rate that is measured."""
_SMALL_PPO = _ppo(256, 256, rollout=256, minibatch=64, epochs=3)
GRAPHED: dict[str, tuple[Settings, tuple[int, ...], tuple[int, ...]]] = {
    "sac, 2 x 256": (_sac(256, 256), (NUMBERS,), ()),
    "sac, 2 x 256, textbook": (_sac(256, 256, accelerate=False), (NUMBERS,), ()),
    "sac, 2 x 256, branches of 3 and 2": (_sac(256, 256), (NUMBERS,), (3, 2)),
    "sac, LSTM": (SACSettings(network=NetworkSettings([64], memory=MemorySettings(Cell["lstm"]))), (NUMBERS,), ()),
    "sac, images": (_sac(256), PIXELS, ()),
    "ppo, 2 x 256": (_SMALL_PPO, (NUMBERS,), ()),
    "ppo, 2 x 256, branches of 3 and 2": (_SMALL_PPO, (NUMBERS,), (3, 2)),
    "ppo, images": (_SMALL_PPO, PIXELS, ()),
}
RATES: dict[str, tuple[Settings, tuple[int, ...]]] = {
    "sac, 2 x 256": (_sac(256, 256), (NUMBERS,)),
    "sac, 2 x 1024": (_sac(1024, 1024), (NUMBERS,)),
    "sac, images": (_sac(256), PIXELS),
    "ppo, 2 x 256": (_ppo(256, 256), (NUMBERS,)),
    "ppo, 2 x 1024": (_ppo(1024, 1024), (NUMBERS,)),
    "ppo, images": (_ppo(256, rollout=1024, minibatch=256, epochs=4), PIXELS),
}
_NUMBERS = ObservationSpec("observation", (NUMBERS,), "float32")
ACTING = {
    "2 x 256": (NetworkSettings([256, 256]), _NUMBERS),
    "2 x 1024": (NetworkSettings([1024, 1024]), _NUMBERS),
    "images": (NetworkSettings([256], encoder="nature"), ObservationSpec("observation", PIXELS, "uint8", 1 / 255)),
}
PIXEL_GAME = ("env=gym", "env.id=benchmarks.pixel_game:FourCorners-v0", "env.instances=8")
MEMORY = {
    "snoopy_sac": ["+experiment=snoopy_sac"],
    "snoopy_ppo": ["+experiment=snoopy_ppo"],
    "pixels, SAC": [*PIXEL_GAME, "algorithm=sac", "algorithm.start_samples=100"],
    "pixels, PPO": [*PIXEL_GAME, "algorithm=ppo", "algorithm.rollout_size=256"],
}
