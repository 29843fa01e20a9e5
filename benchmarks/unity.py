"""`python -m benchmarks.unity --json`: what Unity players cost, and what they deliver, with players of our own.

Parts: `supply` (sixteen players, log-normal steps of 50 ms on average, PPO and SAC learning), `round_trips` (one
player that answers at once, against mlagents-envs' UnityEnvironment, in turns), `decoding` (a message of many agents,
likewise), `memory` (what an added player costs this process), `basic` (a first run, and its evaluation), `two_runs` (at
once).

The env utilization is of the drawn durations: the player seeds its env with what it is given, so that they can be drawn
again here. Times are those at which the trainer noted a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.laws import durations
from benchmarks.report import machine, machine_line, table
from benchmarks.training import train
from envs.api import Setup
from envs.seeding import episode_seed
from envs.spec import Array
from envs.unity.config import UnityConfig
from envs.unity.manager import UnityManager
from envs.unity.protocol.decoding import Decoder
from envs.unity.protocol.messages import message, raw_class
from envs.unity.python_player import write_launcher

_ROOT = Path(__file__).resolve().parents[1]
_INSTANT = "env=benchmarks.unity_toys:Instant-v0"
_LAW = "env=benchmarks.laws:StepLaw-v0"
_TWO_LAYERS = "algorithm.network.hidden=[64,64]"


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object."""
    options = _parser().parse_args(argv)
    result: dict[str, Any] = {"machine": machine(), "seconds": options.seconds, "seed": options.seed}
    for part in options.parts:
        result[part] = PARTS[part](options)
    print(json.dumps(result) if options.json else _text(result))
    return 0


def supply(options: argparse.Namespace) -> dict[str, Any]:
    """Of what sixteen players could deliver, the share that a learning run gets."""
    figures = {}
    for learner, settings in (
        ("ppo", []),
        ("sac", ["algorithm.batch_size=64", "algorithm.updates_per_sample=1"]),
    ):
        with tempfile.TemporaryDirectory() as folder:
            summary = train(
                [
                    *("env=unity", f"env.player={_LAW}", "env.instances=16", "env.time_scale=1"),
                    *(f"algorithm={learner}", _TWO_LAYERS, *settings),
                    *(f"seed={options.seed}", f"stop.seconds={options.seconds}", "checkpoint.replay=false"),
                ],
                Path(folder) / "run",
            )
        kept = 1.0 - sum(summary["dropped"].values()) / max(1, summary["samples"])
        fraction = _drawn_fraction(summary["instances"], options.seed)
        figures[learner] = {
            "env_utilization": fraction * kept,
            "estimated_by_the_run": summary["env_utilization"],
            "samples_per_second": summary["samples_per_second"] * kept,
            "dropped": summary["dropped"],
            "achieved_updates_ratio": min(summary["updates_achieved"].values()),
        }
    return figures


def round_trips(options: argparse.Namespace) -> dict[str, Any]:
    """Steps a second with one player that answers at once: one agent, 20 floats; actions are fixed."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = write_launcher(Path(folder) / "instant.x86_64", [_INSTANT])
        with UnityManager(UnityConfig(executable=str(launcher)), Setup(options.seed, Path(folder))) as manager:
            manager.start()
            ours, theirs = _our_steps(manager), _their_steps(str(launcher))
            scores: dict[str, list[float]] = {"ours": [], "mlagents_envs": []}
            for _ in range(options.rounds + 1):
                scores["ours"].append(_rate(ours, options.seconds / 10))
                scores["mlagents_envs"].append(_rate(theirs, options.seconds / 10))
            theirs(close=True)
    means = {name: float(np.mean(rates[1:])) for name, rates in scores.items()}  # the first warms up
    return {**means, "over_mlagents_envs": means["ours"] / means["mlagents_envs"]}


def decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds to read one message, parsing included."""
    return {
        f"{agents}_agents_{floats}_floats": _decoding_of(agents, floats, options.rounds)
        for agents, floats in ((100, 64), (1, 20))
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident MiB that this process gains for each added player that has stepped."""
    figures = []
    for instances in (1, 17):
        code = f"from benchmarks.unity import resident_mib; print(resident_mib({instances}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)  # noqa: S603
        figures.append(float(done.stdout))
    return {"one_player": figures[0], "seventeen_players": figures[1], "each": (figures[1] - figures[0]) / 16}


def resident_mib(instances: int) -> float:
    """Of this process, with so many players that have each made a hundred steps."""
    with (
        tempfile.TemporaryDirectory() as folder,
        UnityManager(UnityConfig(instances=instances, player=_INSTANT), Setup(0, Path(folder))) as manager,
    ):
        manager.start()
        while manager.samples.min() < 100:
            _turn(manager)
        return float(psutil.Process().memory_info().rss / 2**20)


def basic(options: argparse.Namespace) -> dict[str, Any]:
    """When a first run's mean reward over 1000 samples reached 0.9, and what its policy scores in five episodes."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        goal = ["goal.metric=reward", "goal.at_least=0.9", "goal.window_samples=1000"]
        summary = train(["+experiment=basic_unity", f"seed={options.seed}", *goal], run)
        command = [sys.executable, "-m", "trainer.evaluate", f"run={run}", "episodes=5"]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"reward\s+mean (\S+)\s+min (\S+)\s+max (\S+)", done.stdout)
    if found is None:
        raise RuntimeError(f"`{' '.join(command)}` printed no reward:\n{done.stdout}")
    return {
        "samples_to_0.9": summary["goal_samples"],
        "seconds": summary["seconds"],
        "evaluation": dict(zip(("mean", "min", "max"), map(float, found.groups()))),
    }


def two_runs(options: argparse.Namespace) -> dict[str, Any]:
    """Samples of two runs of eight players each, started at once, that both train for a while."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("first", "second")]
        started = [
            subprocess.Popen(  # noqa: S603
                [
                    *(sys.executable, "-m", "trainer", "env=unity", "env.player=env=basic", "env.instances=8"),
                    *("algorithm=ppo", _TWO_LAYERS, "stop.samples=10000", f"run.dir={run}"),
                ],
                cwd=_ROOT,
                stdout=sys.stderr,
            )
            for run in runs
        ]
        statuses = [process.wait() for process in started]
        summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    return {"statuses": statuses, "samples": [summary["samples"] for summary in summaries]}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "supply": supply,
    "round_trips": round_trips,
    "decoding": decoding,
    "memory": memory,
    "basic": basic,
    "two_runs": two_runs,
}


def _drawn_fraction(instances: dict[str, list[float]], seed: int) -> float:
    """Samples over supply, from the durations that the players have drawn for the samples after their first."""
    delivered, could = 0.0, 0.0
    for instance, (samples, span) in enumerate(zip(instances["samples"], instances["spans"])):
        player_seed = episode_seed(seed, instance, 0)
        first_reset = episode_seed(player_seed, 0, 1)
        drawn = sum(islice(durations("lognormal", first_reset), 1, 1 + int(samples)))
        delivered += samples
        could += samples * span / drawn
    return delivered / could


def _turn(manager: UnityManager) -> None:
    for behavior, ready in manager.recv(None).items():
        count = len(ready.decisions.agent)
        manager.send(behavior, ready.decisions.agent, np.zeros((count, 0), np.float32), np.zeros((count, 1), np.int32))


def _our_steps(manager: UnityManager) -> Callable[..., None]:
    def step() -> None:
        _turn(manager)

    return step


def _their_steps(launcher: str) -> Callable[..., None]:
    from mlagents_envs.base_env import ActionTuple
    from mlagents_envs.environment import UnityEnvironment

    env = UnityEnvironment(launcher, base_port=_free_port(), additional_args=["-logFile", os.devnull])
    env.reset()
    (behavior,) = env.behavior_specs
    action = ActionTuple(discrete=np.zeros((1, 1), np.int32))

    def step(close: bool = False) -> None:
        if close:
            env.close()
            return
        env.set_actions(behavior, action)
        env.step()
        env.get_steps(behavior)

    return step


def _free_port() -> int:
    import socket

    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def _rate(step: Callable[..., None], seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        for _ in range(20):
            step()
        count += 20
    return count / (time.perf_counter() - start)


def _decoding_of(agents: int, floats: int, rounds: int, seconds: float = 0.2) -> dict[str, float]:
    from mlagents_envs.rpc_utils import behavior_spec_from_proto, steps_from_proto

    kind = message("unity_message", "UnityMessageProto")
    whole = _message_of(kind, agents, floats)
    first = whole.SerializeToString()
    spec = behavior_spec_from_proto(
        whole.unity_output.rl_initialization_output.brain_parameters[0],
        whole.unity_output.rl_output.agentInfos[_BEHAVIOR].value[0],
    )
    whole.unity_output.ClearField("rl_initialization_output")
    later = whole.SerializeToString()
    decoder = Decoder()
    decoder.decode(raw_class("UnityMessageProto").FromString(first).unity_output)

    def ours() -> None:
        decoder.decode(raw_class("UnityMessageProto").FromString(later).unity_output)

    def theirs() -> None:
        steps_from_proto(kind.FromString(later).unity_output.rl_output.agentInfos[_BEHAVIOR].value, spec)

    scores: dict[str, list[float]] = {"ours": [], "mlagents_envs": []}
    for _ in range(rounds + 1):
        scores["ours"].append(1e6 / _rate(ours, seconds))
        scores["mlagents_envs"].append(1e6 / _rate(theirs, seconds))
    means = {name: float(np.mean(each[1:])) for name, each in scores.items()}
    return {**means, "times_faster": means["mlagents_envs"] / means["ours"]}


_BEHAVIOR = "Toy?team=0"


def _message_of(kind: Any, agents: int, floats: int) -> Any:
    whole = kind()
    whole.header.status = 200
    parameters = whole.unity_output.rl_initialization_output.brain_parameters.add(brain_name=_BEHAVIOR)
    parameters.action_spec.num_discrete_actions = 1
    parameters.action_spec.discrete_branch_sizes.append(3)
    values: Array = np.random.default_rng(0).normal(size=(agents, floats)).astype(np.float32)
    for key in range(agents):
        info = whole.unity_output.rl_output.agentInfos[_BEHAVIOR].value.add(id=key, reward=0.5)
        info.action_mask.extend([False] * 3)
        seen = info.observations.add(shape=[floats], dimension_properties=[1], name="vector")
        seen.float_data.data.extend(values[key].tolist())
    return whole


def _text(result: dict[str, Any]) -> str:
    title = f"Unity players of our own, {result['seconds']:g} s a run, seed {result['seed']}\n{machine_line()}"
    blocks = []
    for part in PARTS:
        if part in result:
            rows = [(name, value) for name, value in _flat(result[part])]
            blocks.append(table([part, ""], rows))
    return "\n\n".join([title, *blocks])


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.unity", description="What Unity players cost and deliver.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each run that measures supply (60)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the comparisons (3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs (0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
