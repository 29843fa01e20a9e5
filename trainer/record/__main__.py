"""`outstep record env=… player=… to=demos/x.demo`: records episodes as demonstrations.

Exit statuses: 0 it ended as the player wanted; 2 bad input, with one message; 130 interrupted (Ctrl+C), 143 terminated.
However a recording ends, the file holds every complete episode.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from envs.api import Setup
from envs.config import EnvConfig
from envs.gym.adapter import Env, GymEnv, begin, behavior_spec
from envs.gym.spaces import ActionCodec
from envs.parameters import Parameters
from envs.process.lifetime import nothing_left
from envs.seeding import episode_seed
from envs.spec import BehaviorSpec, Decisions, UserError
from envs.unity.demo.writer import DemoWriter, check_target
from trainer.config.command import run_command
from trainer.config.errors import one_line
from trainer.config.saved import load_config
from trainer.config.schema import RecordConfig, TrainConfig
from trainer.evaluate.play import Act, PolicyAgent
from trainer.record.episodes import Demonstrator, Moment, Recorded, record_gym, record_players
from trainer.record.human import Person, check_window
from trainer.record.model_player import ModelPlayer
from trainer.saved_policy import load_checkpoint, trained_policy
from trainer.selfplay.players import bot_act, find_factory, is_bot, make_bot


def main(argv: Sequence[str] | None = None) -> int:
    """Records the play of a bot, a person or a trained policy as demonstrations."""
    return run_command(argv, RecordConfig, "record", _check, _record)


def _check(config: RecordConfig) -> None:
    if config.player is None:
        raise UserError(f"player is missing: {_PLAYERS}")
    if config.to is None:
        raise UserError("to is missing: give the file to write, for example to=demos/game.demo")
    check_target(Path(config.to), config.overwrite)
    run = _run_of(config)
    if run is not None:
        load_checkpoint(config.player)
    env = _env_of(config)
    if config.player in _OWN and env.gym_env() is None:
        raise UserError(
            f"player={config.player} plays Gymnasium environments. In Unity a person is recorded in the Editor, by the "
            "component Demonstration Recorder of ML-Agents; here, give package.module:Name or the folder of a run"
        )
    if config.player == "human":
        check_window()
    elif _is_model(config):
        if not Path(config.player).is_file():
            raise UserError(f"player={config.player} is no file: name a model, or {_PLAYERS}")
    elif run is None and config.player != "bot":
        find_factory(config.player, "player")
    env.check()


def _record(config: RecordConfig) -> int:
    # Again: of several recordings, an earlier one may have written it. An env that plays here may change the folder.
    to = Path(str(config.to))
    check_target(to, config.overwrite)
    to = to.absolute()
    if _is_model(config) or _run_of(config) is not None:
        config = replace(config, player=str(Path(str(config.player)).absolute()))
    figures: dict[str, list[float]] = {"reward": [], "length": []}
    try:
        with _signals() as caught, _episodes(config, lambda: bool(caught)) as episodes, ExitStack() as stack:
            writer = None
            for recorded in episodes:
                if writer is None:
                    writer = stack.enter_context(DemoWriter(to, recorded.spec, to.stem))
                writer.add(recorded.demonstration)
                _print_episode(config, recorded, figures)
    except UserError:
        if figures["reward"]:
            _print_summary(config, figures, "ended by an error")
        raise
    _print_summary(config, figures, "interrupted" if caught else "ended by the player")
    return 128 + caught[0] if caught else 0


def _print_episode(config: RecordConfig, recorded: Recorded, figures: dict[str, list[float]]) -> None:
    """Prints an episode's figures, and adds them to those of all."""
    rewards = recorded.demonstration.rewards
    now = {"reward": float(rewards.sum()), "length": float(len(rewards)), **recorded.metrics}
    for name, value in now.items():
        figures.setdefault(name, []).append(value)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in now.items())
    print(f"episode {len(figures['reward'])} of {config.episodes}  {shown}", flush=True)


def _print_summary(config: RecordConfig, figures: dict[str, list[float]], why: str) -> None:
    done = len(figures["reward"])
    if done < config.episodes:
        what = "holds the complete episodes" if done else "was not written"
        print(f"{why} after {done} of {config.episodes} episodes: {config.to} {what}")
    if done:
        means = ", ".join(f"{name} {np.mean(values):.4g}" for name, values in figures.items())
        print(f"{config.to}: {done} episode{'s' if done > 1 else ''}, means: {means}")


@contextmanager
def _episodes(config: RecordConfig, stopped: Callable[[], bool]) -> Iterator[Iterator[Recorded]]:
    """Yields the episodes as they are played; nothing begins before the first is asked for."""
    env = _env_of(config)
    gym = env.gym_env()
    if gym is not None:
        with nothing_left(), ExitStack() as stack:
            made, spec = _make_gym(gym, config, stack)
            who = _gym_player(config, made, spec, stopped)
            stack.callback(who.close)
            parameters = Parameters(gym.parameters)
            yield record_gym(made, spec, who, config.episodes, config.seed, stopped, parameters)
        return
    env = replace(env, instances=min(env.instances, config.episodes))
    run = Path(str(config.player)) if _run_of(config) else Path("runs")
    with env.make_manager(Setup(config.seed, run / "players" / "recording")) as manager:
        manager.start()
        yield record_players(manager, partial(_act_function, config), config.episodes, stopped)


def _make_gym(gym: GymEnv, record: RecordConfig, stack: ExitStack) -> tuple[Env, BehaviorSpec]:
    """The environment, reset once, and its behavior."""
    human = record.player == "human"
    try:
        env = gym.make(render=human)
    except UserError:
        raise
    except Exception as error:
        pictures = " so that it renders pictures" if human else ""
        raise UserError(f"environment {gym.id!r} cannot be made{pictures}: {one_line(error)}") from error
    stack.callback(env.close)
    if human and env.render_mode != "rgb_array":
        raise UserError(f"player=human needs pictures, and {gym.id!r} does not render rgb_array")
    try:
        parameters = Parameters(gym.parameters)
        values = parameters.episode(parameters.last, record.seed, 0, 0).values
        _, info = begin(env, episode_seed(record.seed, 0, 0), values)
    except Exception as error:  # whatever its code does
        raise UserError(f"environment {gym.id!r} cannot be reset: {one_line(error)}") from error
    return env, behavior_spec(env, gym.behavior, "action_mask" in info, gym.prepare_images, gym.max_entities)


def _gym_player(config: RecordConfig, env: Env, spec: BehaviorSpec, stopped: Callable[[], bool]) -> Demonstrator:
    if (trained := _trained(config, spec)) is not None:
        return _Trained(ActionCodec(env.action_space), trained)
    if config.player == "human":
        return Person(env, config.keys, config.fps, config.episodes, stopped)
    if config.player != "bot":
        return Demonstrator(_made(config, env))
    make_bot = getattr(env.unwrapped, "make_bot", None)
    if make_bot is None:
        raise UserError(
            f"player=bot: {spec.name} has no bot of its own (make_bot); give player=package.module:Name, which is "
            "called with (env, rng) and returns a function from an observation to an action"
        )
    return Demonstrator(make_bot(random.Random(config.seed)))


class _Trained(Demonstrator):
    """A run's policy, or a model, in a Gymnasium environment."""

    def __init__(self, codec: ActionCodec, player: PolicyAgent | ModelPlayer) -> None:
        self._codec, self._player = codec, player
        self._episode = 0

    def act(self, moment: Moment) -> Any:
        begun = np.array([moment.episode != self._episode])
        self._episode = moment.episode
        rows = tuple(row[None] for row in moment.rows)
        one = np.zeros(1, np.int64)
        continuous, discrete = self._player.act(Decisions(one, one, rows, moment.mask[None]), begun)
        return self._codec.decode(continuous[0], discrete[0])


def _act_function(config: RecordConfig, spec: BehaviorSpec) -> Act:
    """Returns what plays Unity's agents: a run's policy, a model, or one bot for all, made from the behavior's spec."""
    if (trained := _trained(config, spec)) is not None:
        return trained.act
    bot = _made(config, spec)
    return bot_act(lambda: bot, spec, f"player={config.player}")


def _trained(config: RecordConfig, spec: BehaviorSpec) -> PolicyAgent | ModelPlayer | None:
    """Returns what plays with a run's best policy or a model; None if neither plays."""
    if _is_model(config):
        return ModelPlayer(str(config.player), spec, config.deterministic)
    if (saved := _run_of(config)) is None:
        return None
    policy = trained_policy(saved, load_checkpoint(str(config.player)), spec)
    return PolicyAgent(policy, config.seed, config.deterministic)


def _made(config: RecordConfig, env: Any) -> Callable[..., Any]:
    """Returns the bot that the factory at the player's import path makes of an environment, or a behavior's spec."""
    path = str(config.player)
    return make_bot(find_factory(path, "player"), env, random.Random(config.seed), f"player={path}")


def _run_of(config: RecordConfig) -> TrainConfig | None:
    """Returns the configuration of the run that plays; None if it is not a run."""
    player = str(config.player)
    if _is_model(config) or player in _OWN or is_bot(player):
        return None
    if not Path(player).exists():
        raise UserError(f"player={player} is unknown: {_PLAYERS}")
    return load_config(player, config.trust)


def _is_model(config: RecordConfig) -> bool:
    return str(config.player).endswith(".onnx")


def _env_of(config: RecordConfig) -> EnvConfig:
    saved = _run_of(config)
    env = config.env or (saved.env if saved else None)
    if env is None:
        raise UserError("env is missing: give it, for example env=bubble_shooter, or env=gym env.id=CartPole-v1")
    return env


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Catches Ctrl+C or SIGTERM: complete episodes are kept. A second Ctrl+C does not wait for the player."""
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(KeyboardInterrupt):
            yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_OWN = ("bot", "human")
_PLAYERS = (
    "give player=bot (the game's own), human, package.module:Name, ./file.py:Name, the folder of a run, such as "
    "runs/..., or an .onnx file"
)


if __name__ == "__main__":
    sys.exit(main())
