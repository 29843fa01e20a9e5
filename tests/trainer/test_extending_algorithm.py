"""The algorithm and the reward signal of docs/extending.md, and what is refused before a run starts."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from envs.imports import _installed
from tests.docs.blocks import command, file_of
from tests.trainer.imitation.toys import write_demo
from tests.trainer.tiny_runs import newest, same_end, summary
from trainer.__main__ import main
from trainer.config.compose import compose, load_config
from trainer.config.schema import TrainConfig
from trainer.evaluate.__main__ import main as evaluate_main
from trainer.export.__main__ import main as export_main

PAGE = "docs/extending.md"
ALGORITHM, SIGNAL = file_of(PAGE, "my_algorithms.py"), file_of(PAGE, "my_rewards.py")
GAME = '''
import gymnasium
import numpy as np

class Aim(gymnasium.Env):
    """Pays for actions that are near to what is seen."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.look(), {}

    def look(self):
        self.seen = self.np_random.uniform(-0.8, 0.8, 1).astype(np.float32)
        return self.seen

    def step(self, action):
        reward = 1 - 4 * float(np.square(action - self.seen).sum())
        self.left -= 1
        return self.look(), reward, not self.left, False, {}

gymnasium.register("Aim-v0", Aim)
'''
AIM = ["env.id=my_game:Aim-v0", "env.instances=1", "env.time_scale=0", "run.mode=inline", "run.picture_minutes=0"]
SMALL = ["algorithm.network.hidden=[16]", "algorithm.settings.start_samples=50", "algorithm.settings.batch_size=16"]


class Point:
    """An entry point as an installed package would have it."""

    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The page's algorithm and signal, in files of the names that it says; and how the algorithm is chosen."""
    for name, text in {"algorithms": ALGORITHM, "rewards": SIGNAL, "game": GAME}.items():
        (tmp_path / f"my_{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return [word for word in command(PAGE, ":TD3") if word.startswith("algorithm") and "learning_rate" not in word]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "outstep.algorithms": [Point("td3", "my_algorithms:TD3")],
        "outstep.rewards": [Point("effort", "my_rewards:Effort")],
    }
    monkeypatch.setattr("envs.imports.entry_points", lambda group: found.get(group, []))
    monkeypatch.setattr("envs.imports._installed", _installed.__wrapped__)  # which remembers nothing
    assert importlib.metadata  # what is stood in for


def test_they_are_short() -> None:
    assert len(ALGORITHM.splitlines()) <= 80
    assert len(SIGNAL.splitlines()) <= 15


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_pages_algorithm_learns(tmp_path, page, seed):
    learning = ["algorithm.network.hidden=[32]", "algorithm.settings.batch_size=64", "algorithm.discount=0.5"]
    learning += ["algorithm.settings.start_samples=100", "algorithm.settings.learning_rate=3e-3", f"seed={seed}"]
    run = tmp_path / "run"
    assert main([*AIM, *page, *learning, f"run.dir={run}", "stop.samples=1000"]) == 0
    assert evaluate_main([f"run={run}", "episodes=10", "checkpoint=last"]) == 0
    assert summary(run)["episode_reward_mean"] > 3.0  # 5 at the most; by luck alone: -3
    assert export_main([f"run={run}", f"to={tmp_path / 'aim.onnx'}"]) == 0
    assert (tmp_path / "aim.onnx").stat().st_size > 0


def test_inline_resume_with_an_algorithm_of_ones_own_is_bit_for_bit(tmp_path, page):
    arguments = [*AIM, *page, *SMALL]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=150"]) == 0
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=90"]) == 0
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=150"]) == 0
    end = same_end(tmp_path / "whole", tmp_path / "parts")
    assert end.tensors["Aim-v0/updates"] > 90


def test_with_a_recurrent_state_it_learns_and_goes_on_too(tmp_path, page):
    cell = ["algorithm.network.memory.cell=gru", "algorithm.network.memory.size=4", "algorithm.settings.n_step=2"]
    assert main([*AIM, *page, *SMALL, *cell, f"run.dir={tmp_path / 'run'}", "stop.samples=80"]) == 0
    # One a sample behind the first 50, but for the open step and the last turn: as many as without a recurrent state.
    assert newest(tmp_path / "run").tensors["Aim-v0/updates"] == 28


def test_what_it_has_learned_is_begun_with(tmp_path, page):
    arguments = [*AIM, *page, *SMALL]
    assert main([*arguments, f"run.dir={tmp_path / 'first'}", "stop.samples=60"]) == 0
    more = [f"init={tmp_path / 'first'}", f"run.dir={tmp_path / 'second'}", "stop.samples=20"]
    assert main([*arguments, *more, "seed=5"]) == 0
    first, second = (newest(tmp_path / name).tensors for name in ("first", "second"))
    for name in ("policy", "critics", "target_policy", "normalizer"):
        key = f"Aim-v0/weights/{name}"
        np.testing.assert_array_equal(first[key], second[key])
    assert second["Aim-v0/updates"] == 0


def test_a_behavior_has_an_algorithm_of_ones_own_while_games_go_on(tmp_path, page):
    behavior = "behaviors.Aim-v0.algorithm"
    own = [f"{behavior}.name=custom", f"{behavior}.path=my_algorithms:TD3", f"{behavior}.network.hidden=[8]"]
    own += [f"{behavior}.settings.start_samples=20", f"{behavior}.settings.batch_size=8"]
    run = tmp_path / "run"
    game = [word for word in AIM if word != "run.mode=inline"]
    assert main([*game, "algorithm=ppo", *own, f"run.dir={run}", "stop.samples=60"]) == 0
    assert "Aim-v0/weights/target_policy" in newest(run).tensors
    assert main([f"resume={run}", "stop.samples=120"]) == 0


def test_an_installed_package_adds_an_algorithm_and_a_signal_by_name(tmp_path, page, installed):
    own = ["algorithm=td3", "algorithm.policy_delay=3", "algorithm.start_samples=30", "algorithm.network.hidden=[8]"]
    own += ["algorithm.batch_size=8", "reward.effort.scale=2"]
    run = tmp_path / "run"
    assert main([*AIM, *own, f"run.dir={run}", "stop.samples=50"]) == 0
    config = load_config(run)
    assert (config.algorithm.name, config.algorithm.policy_delay) == ("td3", 3)
    assert config.reward["effort"].scale == 2
    assert main([f"resume={run}", "stop.samples=60"]) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["algorithm=td4"], "unknown algorithm 'td4'; did you mean td3? there is custom, poca, ppo, sac, td3"),
        (
            ["algorithm=td3", "algorithm.policy_dely=3"],
            "unknown key algorithm.policy_dely; did you mean algorithm.policy_",
        ),
        (["algorithm=td3", "algorithm.policy_delay=x"], "algorithm.policy_delay=x: expected an integer, not 'x'"),
        (["algorithm=td3", "algorithm.policy_delay=0"], "algorithm.policy_delay=0 must be at least 1"),
        (["behaviors.A.algorithm.name=td4"], "behaviors.A.algorithm.name=td4: unknown algorithm; did you mean td3?"),
        (
            ["reward.effrt.scale=2"],
            "unknown key reward.effrt; did you mean reward.effort? there is extrinsic, gail, curiosity, rnd, effort",
        ),
        (["reward.effort.scale=x"], "reward.effort.scale=x: expected a number, not 'x'"),
    ],
)
def test_what_an_installed_package_cannot_be_set_is_refused(page, installed, capsys, tmp_path, given, message):
    assert main([*AIM, *given, f"run.dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["algorithm.path=null"], "algorithm.path is missing"),
        (["algorithm.path=my_algorithms:TD4"], "module my_algorithms has no TD4"),
        (["algorithm.path=my_algorithms:Settings"], "must be a class that derives from algorithms.base.Algorithm"),
        (["algorithm.setings.n_step=2"], "unknown key algorithm.setings; did you mean algorithm.settings?"),
        (
            ["algorithm.settings.n_stp=2"],
            "unknown key algorithm.settings.n_stp; did you mean algorithm.settings.n_step?",
        ),
        (["algorithm.settings.n_step=x"], "algorithm.settings.n_step=x: "),
        (["algorithm.settings.n_step=0"], "algorithm.settings.n_step=0 must be at least 1"),
        (["algorithm.buffer_capacity=100"], "algorithm.buffer_capacity=100 has to be 2000 or more here"),
        (["algorithm.policy_class=sac"], "another policy than acts with algorithm.policy_class=sac"),
        (["algorithm.policy_class=dqn"], "algorithm.policy_class=dqn: expected one of"),
        (["reward.rnd.strength=0.1", "algorithm.discount=1"], "algorithm.discount=1.0 with reward.rnd"),
        (["env.id=CartPole-v1"], "error: TD3 learns continuous actions alone: use SAC or PPO"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_folder(tmp_path, page, capsys, given, message):
    assert main([*AIM, *page, *given, f"run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_demonstrations_are_cloned_and_fill_batches(tmp_path, page):
    demo = write_demo(tmp_path / "x.demo")
    config = compose(["env=basic", *page, f"algorithm.settings.demos={demo}"], TrainConfig, "config")
    assert config.algorithm.demo_paths()["settings.demos"] == str(demo)


def test_settings_of_ones_own_stay_as_a_run_was_started(tmp_path, page, capsys):
    arguments = [*AIM, *page, *SMALL]
    assert main([*arguments, f"run.dir={tmp_path / 'run'}", "stop.samples=30"]) == 0
    capsys.readouterr()
    assert main([f"resume={tmp_path / 'run'}", "algorithm.settings.batch_size=32"]) == 2
    assert "was started with algorithm.settings.batch_size=16" in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_the_pages_signal_is_part_of_the_sum(tmp_path, page, algorithm):
    signal = next(word for word in command(PAGE, "my_rewards:") if word.startswith("reward."))
    small = ["algorithm.network.hidden=[8]"]
    small += ["algorithm.rollout_size=32", "algorithm.minibatch_size=16"] if algorithm == "ppo" else []
    small += ["algorithm.start_samples=20", "algorithm.batch_size=8"] if algorithm == "sac" else []
    arguments = [*AIM, f"algorithm={algorithm}", *small, signal]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=80"]) == 0
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=40"]) == 0
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=80"]) == 0
    end = same_end(tmp_path / "whole", tmp_path / "parts")
    assert float(end.tensors["Aim-v0/rewards/effort/strength"]) == pytest.approx(0.01)
    own = load_config(tmp_path / "whole").reward["effort"].own("reward.effort")
    assert (own.strength, own.scale) == (0.01, 2.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{path: my_rewards:Efort}", "reward.effort.path: my_rewards:Efort: module my_rewards has no Efort"),
        (
            "{path: my_rewards:SignalSettings}",
            "my_rewards:SignalSettings must be a class that derives from algorithms.rewards",
        ),
        ("{path: my_rewards:Effort, scal: 1}", "unknown key reward.effort.scal; did you mean reward.effort.scale?"),
        ("{path: my_rewards:Effort, scale: x}", "reward.effort.scale=x: "),
        ("{path: my_rewards:Effort, strength: -1}", "reward.effort.strength=-1.0 must be at least 0"),
        ("{scale: 1}", "unknown key reward.effort; there is extrinsic, gail, curiosity, rnd, and"),
        ("3", "reward.effort=3: it holds keys of its own and takes no value"),
    ],
)
def test_a_signal_that_cannot_be_is_refused_in_one_line(tmp_path, page, capsys, given, message):
    assert main([*AIM, f"reward.effort={given}", f"run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
