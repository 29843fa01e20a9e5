from __future__ import annotations

import pytest

from envs.spec import UserError
from trainer.checks import check_train
from trainer.compose import compose
from trainer.config import TrainConfig

UNITY = ["env=unity", "env.player=env=basic"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.executable=a/b"], r"env.executable=a/b and env.player=env=basic: a player comes from one of them"),
        (["env.registry=Basic"], r"env.registry=Basic and env.player=env=basic: "),
        (["env.manifest=a.yaml"], "env.manifest=a.yaml needs env.registry"),
        (["env.time_scale=0"], "env.time_scale=0.0 must be above 0 for Unity"),
        (["env.instances=0"], "env.instances=0 must be above 0"),
        (["env.num_areas=0"], "env.num_areas=0 must be above 0"),
        (["env.connect_timeout=0"], "env.connect_timeout=0.0 must be above 0"),
        (["env.width=0"], "env.width=0 must be above 0"),
        (["run.mode=inline"], "run.mode=inline is for reproducing a run exactly"),
        (["behaviors.A.algorithm.discount=2"], "behaviors.A.algorithm.discount=2.0 must lie between 0 and 1"),
        (["behaviors.A.reward.extrinsic.strength=-1"], "behaviors.A.reward.extrinsic.strength=-1.0 must be at least 0"),
        (
            ["behaviors.A.algorithm.name=sac", "behaviors.A.algorithm.batch_size=0"],
            "behaviors.A.algorithm.batch_size=0 must be at least 1",
        ),
    ],
)
def test_what_could_not_run_on_unity_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_train(compose([*UNITY, *overrides], TrainConfig, "config"))


def test_a_gymnasium_env_wants_its_behavior_served() -> None:
    with pytest.raises(UserError, match=r"'CartPole-v1' appeared, but behaviors names only 'Striker'"):
        check_train(compose(["env.id=CartPole-v1", "behaviors.Striker={}"], TrainConfig, "config"))
