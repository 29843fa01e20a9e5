"""`python -m trainer.evaluate run=runs/… episodes=5 video=true`: plays a trained policy and tells what it scores.

Episodes are shared out evenly over instances beforehand, so that short episodes are not over-represented; resets are
seeded apart from those of training. `trainer.evaluate.results` says what it leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from envs.gym import video
from envs.gym.lockstep import LockstepManager
from envs.spec import Array, BehaviorSpec, Decisions, UserError
from trainer.checkpoint import Checkpoint, CheckpointStore
from trainer.config.command import run_command
from trainer.config.compose import as_dict, load_config
from trainer.config.schema import EnvConfig, EvaluateConfig, GymConfig, TrainConfig, UnityConfig, Which, settings_of
from trainer.evaluate.results import RESULTS, Episode, Evaluation, place_of, save_evaluation, scalars
from trainer.runtime.env_factory import Instances, check_env, make_manager
from trainer.telemetry.metrics import TensorBoard

if TYPE_CHECKING:
    from algorithms.policy import Policy


class Played(NamedTuple):
    """One episode that was played."""

    reward: float
    length: int
    metrics: dict[str, float]
    behavior: str


Act = Callable[[str, Decisions, Array], tuple[Array, Array]]
"""From a behavior, its decisions, and which of them begin an episode (N,) bool, to continuous and discrete actions."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit status."""
    return run_command(sys.argv[1:] if argv is None else argv, EvaluateConfig, "evaluate", _check, _evaluate)


def evaluate(
    config: TrainConfig, checkpoint: Checkpoint, episodes: int, *, seed: int, deterministic: bool = True
) -> list[Played]:
    """Plays `episodes` episodes of each behavior with the policies of `checkpoint` on the run's environment.

    Gymnasium environments do not wait, and go in lock-step: with one seed, what is drawn is the same each time. Unity
    plays at its time scale.

    Raises:
        UserError: the environment does not fit the checkpoint, or fails.
    """
    env = replace(config.env, instances=min(episodes, config.env.instances))
    if isinstance(env, GymConfig):
        env = replace(env, time_scale=0)
    players: dict[str, TrainedPlayer] = {}
    made = make_manager(env, seed, checkpoint.path.parents[1] / "players" / "evaluation")
    with LockstepManager(made) if isinstance(env, GymConfig) else made as manager:
        manager.start()

        def act(behavior: str, decisions: Decisions, begun: Array) -> tuple[Array, Array]:
            if behavior not in players:
                policy = trained_policy(config, checkpoint, manager.specs[behavior])
                players[behavior] = TrainedPlayer(policy, seed, deterministic)
            return players[behavior].act(decisions.agent, decisions.observations, decisions.mask, begun)

        return play(manager, act, episodes)


def play(manager: Instances | LockstepManager, act: Act, episodes: int) -> list[Played]:
    """Plays `episodes` episodes of each behavior on a started manager's instances; in order of their ends.

    Each instance takes its share: of each behavior the first that begin in it, however many end before these.
    """
    share, more = divmod(episodes, manager.instances)
    running: dict[tuple[str, int], _Running] = {}
    to_begin: dict[str, Array] = {}
    """By behavior: episodes that each instance has yet to begin."""
    played: list[Played] = []
    while len(played) < episodes * max(1, len(to_begin)):
        while manager.events:
            print(manager.events.popleft().text, file=sys.stderr)
        for behavior, ready in manager.recv(_EVENT_SECONDS).items():
            left = to_begin.setdefault(behavior, np.array([share + (i < more) for i in range(manager.instances)]))
            for agent in ready.lost.tolist():
                lost = running.pop((behavior, agent), None)
                if lost is not None and lost.counts:
                    left[lost.instance] += 1
            results, decisions = ready.results, ready.decisions
            ended = results.terminated | results.truncated
            for i, (agent, instance) in enumerate(zip(results.agent.tolist(), results.instance.tolist())):
                episode = running[behavior, agent]
                episode.reward += float(results.reward[i])
                episode.length += 1
                if ended[i]:
                    del running[behavior, agent]
                    if episode.counts:
                        metrics = ready.metrics.get(instance, {})
                        played.append(Played(episode.reward, episode.length, metrics, behavior))
            begun = np.array([(behavior, agent) not in running for agent in decisions.agent.tolist()], np.bool_)
            for agent, instance in zip(decisions.agent[begun].tolist(), decisions.instance[begun].tolist()):
                running[behavior, agent] = _Running(instance, counts=left[instance] > 0)
                left[instance] -= left[instance] > 0
            if len(decisions.agent):
                manager.send(behavior, decisions.agent, *act(behavior, decisions, begun))
    return played


class TrainedPlayer:
    """A trained policy that plays, and what it remembers of each agent."""

    def __init__(self, policy: Policy, seed: int, deterministic: bool) -> None:
        import torch  # takes seconds

        self._policy, self._deterministic = policy, deterministic
        self._generator = torch.Generator().manual_seed(seed)
        self._memory: dict[int, Array] = {}

    def act(self, agents: Array, observations: Sequence[Array], mask: Array, begun: Array) -> tuple[Array, Array]:
        """Continuous (N, C) and discrete (N, D) actions of agents (N,), of which some have `begun` an episode (N,)."""
        nothing = np.zeros(self._policy.memory_size, np.float32)
        known = zip(agents.tolist(), begun.tolist())
        memory = np.stack([nothing if new else self._memory[agent] for agent, new in known])
        acted = self._policy.act(observations, mask, memory, self._generator, self._deterministic)
        self._memory.update(zip(agents.tolist(), acted.memory))
        return acted.continuous, acted.discrete


def trained_policy(config: TrainConfig, checkpoint: Checkpoint, spec: BehaviorSpec) -> Policy:
    """The policy of a behavior, from a run's configuration and checkpoint.

    Raises:
        UserError: the checkpoint is of another spec, or of networks that these settings do not make.
    """
    check_spec(spec, checkpoint)
    import torch  # takes seconds

    from trainer.runtime.behavior import make_policy

    policy = make_policy(spec, settings_of(config, spec.name)[0])
    saved = torch.from_numpy(checkpoint.tensors[f"{spec.name}/weights/policy"])
    if saved.shape != policy.flat.shape:
        raise UserError(
            f"{checkpoint.path}: its policy of {spec.name!r} has {saved.numel():,} numbers, by the run's settings it "
            f"would have {policy.flat.numel():,}: it was saved by another version"
        )
    policy.flat.copy_(saved)
    return policy


def check_spec(spec: BehaviorSpec, saved: Checkpoint) -> None:
    """Raises UserError if `saved` is of a behavior with another name or spec."""
    behaviors = saved.state.get("behaviors")
    if not isinstance(behaviors, dict):
        raise UserError(f"{saved.path} says nothing of behaviors: it was saved by another version")
    if spec.name not in behaviors:
        raise UserError(f"{saved.path} holds no behavior {spec.name!r}; it has {', '.join(sorted(behaviors))}")
    try:
        known = BehaviorSpec.from_dict(behaviors[spec.name]["spec"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{saved.path}: its spec of {spec.name!r} cannot be read ({error!r})") from error
    difference = spec.difference(known)
    if difference:
        raise UserError(f"{saved.path} does not fit behavior {spec.name!r}: the environment has {difference}")


def load_checkpoint(folder: str, which: Which = Which["best"]) -> Checkpoint:
    """The best checkpoint of the run in `folder`, or the newest if there is no best or the newest is asked for.

    Damaged ones are named in the log and passed over.

    Raises:
        UserError: there is none that can be loaded.
    """
    store = CheckpointStore(Path(folder) / "checkpoints")
    best = store.load_best() if which is Which["best"] else None
    return best or store.load_latest()


@dataclass
class _Running:
    """An episode that has begun."""

    instance: int
    counts: bool
    reward: float = 0.0
    length: int = 0


_EVENT_SECONDS = 1.0


def _filmed(env: EnvConfig, folder: Path) -> EnvConfig:
    """The same environment, whose episodes leave videos in `folder`."""
    if not isinstance(env, GymConfig):
        raise UserError("video=true: a Unity player draws in a window of its own, which cannot be filmed from here")
    wrapper = {"path": video.WRAPPER, "kwargs": {"folder": str(folder)}}
    kwargs = {**env.kwargs, "render_mode": "rgb_array"}
    return replace(env, kwargs=kwargs, wrappers=[*env.wrappers, wrapper])


def _check(config: EvaluateConfig) -> None:
    saved = load_config(config.run)
    load_checkpoint(config.run, config.checkpoint)
    env = config.env or saved.env
    check_env(_filmed(env, Path()) if config.video else env)


def _evaluate(config: EvaluateConfig) -> int:
    checkpoint = load_checkpoint(config.run, config.checkpoint)
    saved = load_config(config.run)
    env = config.env or saved.env
    place = place_of(Path(config.run), config.deterministic)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".playing-", dir=place, ignore_cleanup_errors=True) as folder:
            saved = replace(saved, env=_filmed(env, Path(folder)) if config.video else env)
            played = evaluate(saved, checkpoint, config.episodes, seed=config.seed, deterministic=config.deterministic)
            evaluation, videos = _evaluation(config, checkpoint, env, played, Path(folder))
            _print_figures(checkpoint, config.episodes, evaluation)
            written = save_evaluation(evaluation, Path(config.run), videos)
        named = isinstance(env, UnityConfig) or len(evaluation.figures) > 1
        board = TensorBoard(place)
        board.scalars(evaluation.samples, scalars(evaluation, named))
        board.close()
    except OSError as error:
        raise UserError(f"what the evaluation found cannot be written to {place} ({error.strerror})") from error
    print(f"{written}: {', '.join([RESULTS, *videos])}")
    if videos and video.SUFFIX == ".gif":
        print("For MP4, at any length and in full size: pip install 'outstep[video]'")
    return 0


def _evaluation(
    config: EvaluateConfig, checkpoint: Checkpoint, env: EnvConfig, played: Sequence[Played], folder: Path
) -> tuple[Evaluation, dict[str, Path]]:
    """What was found, and by name the videos, which lie in `folder` so far."""
    episodes: list[Episode] = []
    videos: dict[str, Path] = {}
    for place, each in enumerate(played, start=1):
        metrics, name = dict(each.metrics), None
        if config.video:
            name = f"episode-{place}{video.SUFFIX}"
            videos[name] = video.video_file(folder, metrics.pop(video.NUMBER))
        episodes.append(Episode(each.behavior, each.reward, each.length, metrics, name))
    evaluation = Evaluation(
        checkpoint=checkpoint.path.name,
        samples=sum(each["samples"] for each in checkpoint.state["behaviors"].values()),
        deterministic=config.deterministic,
        seed=config.seed,
        played_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        env=as_dict(env),
        episodes=episodes,
    )
    return evaluation, videos


def _print_figures(checkpoint: Checkpoint, episodes: int, evaluation: Evaluation) -> None:
    print(f"{checkpoint.path}: {episodes} episodes")
    for behavior, figures in evaluation.figures.items():
        if len(evaluation.figures) > 1:
            print(f"{behavior}: {episodes} episodes")
        for name, figure in figures.items():
            print(f"{name:>10}  mean {figure.mean:.4g}  min {figure.min:.4g}  max {figure.max:.4g}")


if __name__ == "__main__":
    sys.exit(main())
