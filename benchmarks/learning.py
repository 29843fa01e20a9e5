"""`python -m benchmarks.learning --seeds 3 --json`: samples until a mark is reached, by real runs of the trainer.

Each run keeps a checkpoint every half second. Afterwards `trainer.evaluate` plays them in order, deterministically, at
seeds that training never sees, until one reaches the mark, and then the last. The run itself is not disturbed by this.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import machine, machine_line, table
from benchmarks.training import record, train
from envs.spec import UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.compose import load_config
from trainer.evaluate.play import evaluate

EPISODES = 20
EXPERT_EPISODES = 4
_EVALUATION_SEED = 1_000_000  # added to the run's
_LOOKS = 20  # evaluations of one run at most, evenly over its samples
_CHECKPOINT_SECONDS = 0.5


@dataclass(frozen=True)
class LearningTask:
    """What is to be learned, and by when."""

    overrides: tuple[str, ...]
    """Of `python -m trainer`."""
    mark: float
    """Mean reward of an evaluation."""
    samples: int
    """Within which the mark is to be reached, and after which the run ends."""
    expert: str | None = None
    """Whose four episodes are to be imitated, by GAIL and without the game's reward; see `benchmarks.experts`."""


_SMALL = "algorithm.network.hidden=[64,64]"
_RECALL = ("env=recall", "algorithm.network.hidden=[64]", "algorithm.learning_rate=1e-3")
_RECALL_SAC = (
    *("algorithm=sac", *_RECALL, "algorithm.batch_size=1024", "algorithm.updates_per_sample=0.05"),
    *("algorithm.temperature=0.02", "algorithm.learn_temperature=false", "algorithm.discount=0.97"),
)
_REMEMBER = "algorithm.network.memory.cell=lstm"
_CORRIDOR = ("env=corridor", "env.instances=8", _SMALL)
_CORRIDOR_SAC = (
    *("algorithm=sac", *_CORRIDOR, "algorithm.batch_size=128", "algorithm.target_rate=0.02", "algorithm.n_step=3"),
    *("algorithm.updates_per_sample=0.25", "algorithm.discount=0.98", "algorithm.discrete_entropy=0.5"),
    *("algorithm.learning_rate=1e-3", "algorithm.learning_rate_end=1e-4", "algorithm.schedule_samples=150000"),
    "algorithm.dueling=true",
)
TASKS = {
    "ppo_cartpole": LearningTask(
        (
            *("env=gym", "env.id=CartPole-v1", "env.instances=8", "algorithm=ppo", _SMALL),
            *("algorithm.rollout_size=1024", "algorithm.minibatch_size=128", "algorithm.epochs=8"),
            *("algorithm.learning_rate=1e-3", "algorithm.entropy_coef=0"),
        ),
        mark=475.0,
        samples=100_000,
    ),
    "sac_pendulum": LearningTask(
        (
            *("env=gym", "env.id=Pendulum-v1", "env.instances=8", "algorithm=sac"),
            *("algorithm.network.hidden=[128,128]", "algorithm.batch_size=256", "algorithm.start_samples=300"),
            *("algorithm.learning_rate=1e-3", "algorithm.discount=0.95", "algorithm.target_rate=0.01"),
        ),
        mark=-200.0,
        samples=10_000,
    ),
    "sac_cartpole": LearningTask(
        (
            *("env=gym", "env.id=CartPole-v1", "env.instances=8", "algorithm=sac", _SMALL),
            *("algorithm.batch_size=128", "algorithm.learning_rate=1e-3", "algorithm.target_rate=0.02"),
        ),
        mark=475.0,
        samples=50_000,
    ),
    "sac_gail_cartpole": LearningTask(
        (
            *("env=gym", "env.id=CartPole-v1", "env.instances=8", "algorithm=sac", _SMALL),
            *("algorithm.batch_size=128", "algorithm.learning_rate=1e-3", "algorithm.target_rate=0.02"),
            *("algorithm.updates_per_sample=0.5", "reward.extrinsic.strength=0", "reward.gail.strength=1"),
            "reward.gail.updates_per_sample=0.1",
        ),
        mark=450.0,
        samples=30_000,
        expert="benchmarks.experts:cartpole",
    ),
    "ppo_basic": LearningTask(("+experiment=basic_ppo",), mark=0.9, samples=10_000),
    "ppo_recall": LearningTask(("algorithm=ppo", *_RECALL, _REMEMBER), mark=0.95, samples=150_000),
    "ppo_recall_forgetful": LearningTask(("algorithm=ppo", *_RECALL), mark=0.95, samples=150_000),
    "sac_recall": LearningTask((*_RECALL_SAC, _REMEMBER), mark=0.95, samples=30_000),
    "sac_recall_forgetful": LearningTask(_RECALL_SAC, mark=0.95, samples=30_000),
    "ppo_corridor_rnd": LearningTask(
        ("algorithm=ppo", *_CORRIDOR, "reward.rnd.strength=1"), mark=0.95, samples=150_000
    ),
    "ppo_corridor_curiosity": LearningTask(
        ("algorithm=ppo", *_CORRIDOR, "reward.curiosity.strength=1"), mark=0.95, samples=150_000
    ),
    "ppo_corridor": LearningTask(("algorithm=ppo", *_CORRIDOR), mark=0.95, samples=150_000),
    "sac_corridor_rnd": LearningTask(
        (*_CORRIDOR_SAC, "reward.rnd.strength=1", "reward.rnd.updates_per_sample=0.02"), mark=0.95, samples=150_000
    ),
    "sac_corridor": LearningTask(_CORRIDOR_SAC, mark=0.95, samples=150_000),
}


@dataclass(frozen=True)
class Learned:
    """What one run came to."""

    seed: int
    mark_samples: int | None
    """Samples of the first checkpoint that reached the mark, if one did within the task's samples."""
    mark_seconds: float | None
    """The run's seconds at that checkpoint, start-up included."""
    final: float
    """Mean reward of the last checkpoint."""
    curve: list[tuple[int, float]]
    """Samples and mean reward of every evaluation made."""


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark and prints a table, or one JSON object; 0, or 2 for bad input."""
    options = _parser().parse_args(argv)
    if options.seeds < 1:
        print(f"learning: --seeds {options.seeds} must be at least 1", file=sys.stderr)
        return 2
    learned: dict[str, list[Learned]] = {}
    try:
        for name in options.tasks:
            learned[name] = [run(TASKS[name], seed, options.mode) for seed in range(options.seeds)]
    except UserError as error:
        print(f"learning: {error}", file=sys.stderr)
        return 2
    if options.json:
        tasks = {name: _task_figures(TASKS[name], runs) for name, runs in learned.items()}
        print(json.dumps({"mode": options.mode, "episodes": EPISODES, "machine": machine(), "tasks": tasks}))
    else:
        print(_text(learned, options.mode))
    return 0


def run(task: LearningTask, seed: int, mode: str) -> Learned:
    """Trains with one seed, then evaluates what was kept."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        train([*_overrides(task, seed, mode), *_imitation(task, seed, Path(parent))], folder)
        config, store = load_config(str(folder)), CheckpointStore(folder / "checkpoints")

        def score(checkpoint: Checkpoint) -> float:
            played = evaluate(config, checkpoint, EPISODES, seed=_EVALUATION_SEED + seed)
            return float(np.mean([episode.reward for episode in played]))

        curve: list[tuple[int, float]] = []
        marked: Checkpoint | None = None
        for checkpoint in spaced(_checkpoints(store), task.samples // _LOOKS):
            curve.append((samples_of(checkpoint), score(checkpoint)))
            if curve[-1][1] >= task.mark:
                marked = checkpoint if curve[-1][0] <= task.samples else None
                break
        last = store.load_latest()
        if not curve or samples_of(last) > curve[-1][0]:
            curve.append((samples_of(last), score(last)))
    return Learned(
        seed,
        samples_of(marked) if marked else None,
        float(marked.state["report"]["seconds"]) if marked else None,
        curve[-1][1],
        curve,
    )


def samples_of(checkpoint: Checkpoint) -> int:
    """Samples that a run had made at a checkpoint."""
    return sum(int(behavior["samples"]) for behavior in checkpoint.state["behaviors"].values())


def spaced(checkpoints: Iterator[Checkpoint], samples: int) -> Iterator[Checkpoint]:
    """Those that lie at least `samples` samples after the one before."""
    before = 0
    for checkpoint in checkpoints:
        if samples_of(checkpoint) >= before + samples:
            before = samples_of(checkpoint)
            yield checkpoint


def _checkpoints(store: CheckpointStore) -> Iterator[Checkpoint]:
    return (store.load(path) for path in store.all())


def _imitation(task: LearningTask, seed: int, folder: Path) -> list[str]:
    """Records what is to be imitated, if anything is; overrides that name it."""
    if task.expert is None:
        return []
    demos = folder / "expert.demo"
    record([each for each in task.overrides if each.startswith("env")], task.expert, EXPERT_EPISODES, demos, seed)
    return [f"reward.gail.demos={demos}"]


def _overrides(task: LearningTask, seed: int, mode: str) -> list[str]:
    return [
        *task.overrides,
        f"seed={seed}",
        f"run.mode={mode}",
        f"stop.samples={task.samples}",
        f"checkpoint.every_seconds={_CHECKPOINT_SECONDS}",
        "checkpoint.keep=1000000",
        "checkpoint.replay=false",
        "run.picture_minutes=0",
    ]


def _task_figures(task: LearningTask, runs: Sequence[Learned]) -> dict[str, object]:
    return {
        "mark": task.mark,
        "samples": task.samples,
        "overrides": list(task.overrides),
        "reached": sum(each.mark_samples is not None for each in runs),
        "seeds": [asdict(each) for each in runs],
    }


def _text(learned: dict[str, list[Learned]], mode: str) -> str:
    header = ["task", "seed", "mark", "within", "reached after", "seconds", "final mean"]
    rows = [
        [name, each.seed, TASKS[name].mark, TASKS[name].samples, each.mark_samples, each.mark_seconds, each.final]
        for name, runs in learned.items()
        for each in runs
    ]
    title = f"samples to a mean reward over {EPISODES} deterministic episodes; runs in {mode} mode"
    return f"{title}\n{machine_line()}\n\n{table(header, rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.learning", description="Samples until a mark is reached.")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each task, with seeds 0, 1, ... (3)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="what is learned (all)")
    parser.add_argument("--mode", choices=("async", "inline"), default="async", help="run.mode of the trainer (async)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
