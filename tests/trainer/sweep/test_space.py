"""Ranges and choices, in Hydra's own syntax."""

from __future__ import annotations

import random
import re

import pytest

from envs.spec import UserError
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.sweep.space import Parameter, combinations, read_space


def only(word: str) -> Parameter:
    fixed, (found,) = read_space([word], None)
    assert fixed == []
    return found


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("algorithm.clip=interval(0.1,0.3)", Parameter("algorithm.clip", (), 0.1, 0.3)),
        ("algorithm.clip=tag(log,interval(0.1,0.3))", Parameter("algorithm.clip", (), 0.1, 0.3, log=True)),
        ("algorithm.epochs=interval(3,9)", Parameter("algorithm.epochs", (), 3, 9, 1, whole=True)),
        ("env.kwargs.size=int(interval(3,9))", Parameter("env.kwargs.size", (), 3, 9, 1, whole=True)),
        ("env.kwargs.size=interval(3,9)", Parameter("env.kwargs.size", (), 3, 9)),
        ("algorithm.epochs=range(3,10,2)", Parameter("algorithm.epochs", (), 3, 9, 2, whole=True)),
        ("algorithm.clip=range(0.1,0.35,0.1)", Parameter("algorithm.clip", (), 0.1, 0.3, 0.1)),
        ("algorithm.clip=0.1,0.3,0.1", Parameter("algorithm.clip", ("0.1", "0.3"))),
        ("algorithm.network.hidden=choice([8],[8,8])", Parameter("algorithm.network.hidden", ("[8]", "[8,8]"))),
        ("algorithm=ppo,sac", Parameter("algorithm", ("ppo", "sac"))),
    ],
)
def test_what_hydra_says_is_searched(word, expected):
    assert only(word) == expected


def test_values_are_written_as_hydra_reads_them():
    assert only("algorithm.clip=range(0.1,0.6,0.1)").word(0.30000000000000004) == "algorithm.clip=0.3"
    assert only("algorithm.epochs=interval(3,9)").word(4.0) == "algorithm.epochs=4"
    assert only("algorithm.clip=interval(0,1)").word(1e-05) == "algorithm.clip=1e-05"


def test_a_range_ends_before_its_end_and_a_grid_has_all_of_it():
    _, found = read_space(["algorithm.epochs=range(3,6)", "algorithm.clip=0.1,0.3"], None)
    grid = [tuple(each.values()) for each in combinations(found)]
    assert grid == [(3, "0.1"), (3, "0.3"), (4, "0.1"), (4, "0.3"), (5, "0.1"), (5, "0.3")]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("algorithm.clip=interval(0.3,0.1)", "a range goes from a smaller number to a larger one"),
        ("algorithm.clip=tag(lgo,interval(0.1,1))", "the only tag is log, not lgo"),
        ("algorithm.clip=tag(log,interval(0,1))", "needs numbers above 0"),
        ("algorithm.epochs=range(5,5)", "holds no values"),
        ("algorithm.clip=interval(1", "cannot read"),
    ],
)
def test_a_range_that_is_none_is_refused(word, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_space([word], None)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_our_spaces_hold_settings_that_exist_in_ranges_that_are_right(name):
    _, found = read_space([], name)
    assert len(found) > 6
    for place in (0, -1):
        words = [each.word(each.ends()[place]) for each in found]
        compose(["env=basic", f"algorithm={name}", *words], TrainConfig, "config")


def test_words_count_before_a_space_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("algorithm.clip: interval(0.1,0.3)\nalgorithm.epochs: 1,2\nalgorithm.shared_trunk: true\n")
    fixed, found = read_space(["algorithm.clip=0.2", "algorithm.epochs=3,4"], str(file))
    assert sorted(fixed) == ["algorithm.clip=0.2", "algorithm.shared_trunk=true"]
    assert [each.choices for each in found] == [("3", "4")]
    with pytest.raises(UserError, match="space=pppo: did you mean ppo"):
        read_space([], "pppo")


def test_what_is_perturbed_stays_within_its_range_and_moves():
    draw = random.Random(0)
    for word, low, high in (
        ("algorithm.clip=interval(0.1,0.3)", 0.1, 0.3),
        ("algorithm.epochs=interval(2,5)", 2, 5),
        ("algorithm.clip=range(0.1,0.45,0.1)", 0.1, 0.4),
    ):
        parameter, value, seen = only(word), low, set()
        for _ in range(200):
            value = parameter.perturbed(value, draw)
            assert low <= value <= high
            seen.add(round(value, 6))
        assert len(seen) > 3
    choices = only("algorithm.epochs=8,2,4")
    assert {choices.perturbed("2", draw) for _ in range(100)} == {"2", "4", "8"}
