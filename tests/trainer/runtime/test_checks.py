from __future__ import annotations

import pytest

from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.checks import check_train


def test_a_gymnasium_env_wants_its_behavior_served() -> None:
    with pytest.raises(UserError, match=r"'CartPole-v1' appeared, but behaviors names only 'Striker'"):
        check_train(compose(["env.id=CartPole-v1", "behaviors.Striker={}"], TrainConfig, "config"))
