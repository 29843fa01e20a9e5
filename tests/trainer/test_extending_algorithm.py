"""The algorithm of docs/extending.md, done as it says, and what is refused before a run starts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.imitation.toys import write_demo
from tests.trainer.tiny_runs import TINY, newest, same_end, summary
from trainer.__main__ import main
from trainer.evaluate.__main__ import main as evaluate_main

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
PATH = "algorithm.path=my_algorithms:AdvantageWeighted"
SMALL = ["algorithm.settings.rollout_size=64", *TINY]


@pytest.fixture
def custom(tmp_path, monkeypatch) -> list[str]:
    """The page's algorithm, in a file of the name that it says, and the overrides with which it is chosen."""
    page = PAGE.read_text(encoding="utf-8")
    block = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class AdvantageWeighted" in block
    )
    (tmp_path / "my_algorithms.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = ["algorithm=custom", PATH]
    assert (
        f"python -m trainer env=gym env.id=CartPole-v1 {' '.join(chosen)} algorithm.settings.learning_rate=3e-3\n"
        in page
    )
    return chosen


def test_the_pages_algorithm_learns_to_balance_a_pole_for_longer(tmp_path, custom):
    words = [
        "env.id=CartPole-v1",
        *custom,
        "algorithm.settings.learning_rate=3e-3",
        "run.mode=inline",
        "env.time_scale=0",
    ]
    words += ["algorithm.network.hidden=[64]", "run.picture_minutes=0"]
    assert main([*words, f"run.dir={tmp_path / 'run'}", "stop.samples=20000"]) == 0
    assert summary(tmp_path / "run")["episode_reward_mean"] > 60  # by luck alone: 22


def test_inline_resume_with_an_algorithm_of_ones_own_is_bit_for_bit(tmp_path, custom):
    arguments = ["env=basic", "run.mode=inline", *custom, *SMALL]
    assert main([*arguments, f"run.dir={tmp_path / 'whole'}", "stop.samples=350"]) == 0
    assert main([*arguments, f"run.dir={tmp_path / 'parts'}", "stop.samples=180"]) == 0
    assert main([f"resume={tmp_path / 'parts'}", "stop.samples=350"]) == 0
    end = same_end(tmp_path / "whole", tmp_path / "parts")
    assert end.tensors["Basic-v0/updates"] == 5


def test_what_it_has_learned_is_played_and_begun_with(tmp_path, custom):
    arguments = ["env=basic", "run.mode=inline", *custom, *SMALL]
    assert main([*arguments, f"run.dir={tmp_path / 'first'}", "stop.samples=200"]) == 0
    assert evaluate_main([f"run={tmp_path / 'first'}", "episodes=2"]) == 0
    more = [f"init={tmp_path / 'first'}", f"run.dir={tmp_path / 'second'}", "stop.samples=20"]
    assert main([*arguments, *more, "seed=5"]) == 0
    first, second = (newest(tmp_path / name).tensors for name in ("first", "second"))
    for name in ("policy", "value", "normalizer"):
        key = f"Basic-v0/weights/{name}"
        np.testing.assert_array_equal(first[key], second[key])
    assert second["Basic-v0/updates"] == 0


def test_a_behavior_has_an_algorithm_of_ones_own_while_games_go_on(tmp_path, custom):
    behavior = "behaviors.Basic-v0.algorithm"
    words = [
        f"{behavior}.name=custom",
        f"{behavior}.path=my_algorithms:AdvantageWeighted",
        f"{behavior}.settings.entropy=0",
    ]
    words += [f"{behavior}.settings.rollout_size=32", f"{behavior}.network.hidden=[8]"]
    run = tmp_path / "run"
    assert main(["env=basic", "algorithm=ppo", *words, f"run.dir={run}", "stop.samples=150"]) == 0
    assert newest(run).tensors["Basic-v0/updates"] >= 2
    assert main([f"resume={run}", "stop.samples=300"]) == 0
    assert newest(run).tensors["Basic-v0/updates"] >= 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algorithm.path=null"], "algorithm.path is missing"),
        (["algorithm.path=my_algorithms:ActorKritic"], "module my_algorithms has no ActorKritic"),
        (["algorithm.path=my_algorithms:Options"], "my_algorithms:Options lacks update, set_progress, metrics,"),
        (["algorithm.setings.entropy=0"], "unknown key algorithm.setings; did you mean algorithm.settings?"),
        (["algorithm.settings.entropi=0"], "unexpected keyword argument 'entropi'"),
        (["algorithm.settings.rollout_size=x"], "(TypeError: "),
        (["algorithm.buffer_capacity=1000"], "take 1,536 rows, and the buffer holds 1,000: raise"),
        (["algorithm.policy_class=sac"], "another policy than acts with algorithm.policy_class=sac"),
        (["algorithm.policy_class=dqn"], "algorithm.policy_class=dqn: expected one of"),
        (["reward.rnd.strength=0.1"], "error: AdvantageWeighted learns from the environment's reward alone"),
        (["reward.rnd.strength=0.1", "algorithm.discount=1"], "algorithm.discount=1.0 with reward.rnd"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_folder(tmp_path, custom, capsys, words, message):
    assert main(["env.id=CartPole-v1", *custom, *words, f"run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "message"),
    [("reward.gail", "reward alone: leave other signals out"), ("algorithm.cloning", "does no cloning")],
)
def test_demonstrations_are_handed_over_and_refused_where_nothing_is_done_with_them(
    tmp_path, custom, capsys, key, message
):
    demo = write_demo(tmp_path / "x.demo")
    assert main(["env=basic", *custom, f"{key}.demos={demo}", f"run.dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


def test_settings_of_ones_own_stay_as_a_run_was_started(tmp_path, custom, capsys):
    arguments = ["env=basic", "run.mode=inline", *custom, *SMALL]
    assert main([*arguments, f"run.dir={tmp_path / 'run'}", "stop.samples=30"]) == 0
    capsys.readouterr()
    assert main([f"resume={tmp_path / 'run'}", "algorithm.settings.rollout_size=32"]) == 2
    assert "was started with algorithm.settings.rollout_size=64" in capsys.readouterr().err
