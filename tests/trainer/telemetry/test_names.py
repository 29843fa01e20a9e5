"""What metrics are called where people read them."""

import re
from pathlib import Path

import pytest

from algorithms.ppo.ppo import METRICS as PPO_METRICS
from algorithms.rewards.gail import METRICS as GAIL_METRICS
from trainer.telemetry.mlagents_tags import _TAGS
from trainer.telemetry.names import NAMES, named


def test_every_metric_of_ours_has_a_name_of_its_own():
    documented = re.findall(
        r"`([a-z]+/[a-z_]+)`", (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    )
    for metric in {*documented, *PPO_METRICS, *GAIL_METRICS, *_TAGS}:
        title = named(metric).title
        assert metric in NAMES or metric.startswith(("evaluation/", "reward/")), metric
        assert "/" not in title
        assert "_" not in title
    titles = [name.title for name in NAMES.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("policy/entropy_branch_1", "Entropy of branch 1"),
        ("sac/temperature_continuous", "Temperature of continuous actions"),
        ("evaluation/reward", "Reward in evaluations"),
        ("evaluation/bubbles", "bubbles in evaluations"),
        ("goal/length", "Episode length, for the goal"),
        ("reward/gail", "Reward signal: gail"),
        ("reward/gail_return_scale", "Scale of returns: gail"),
        ("gail/skipped_non_finite", "Gradient steps skipped, of gail"),
        ("constant/camera", "camera never changes"),
        ("game/Lives/Left", "Lives/Left"),
        ("my/own_metric", "Own metric (my)"),
        ("own", "Own"),
        ("_", "_"),
    ],
)
def test_names_of_what_there_is_one_of_for_each(metric, title):
    assert named(metric).title == title
