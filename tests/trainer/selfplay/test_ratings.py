"""Elo by match against numbers computed by hand, and who is met how often."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluate.matches import Tally, fitted_ratings
from trainer.selfplay.ratings import Opponent, Ratings, expected_score, saved_rating
from trainer.selfplay.settings import Sampling, SelfPlayConfig
from trainer.selfplay.snapshots import Snapshots, snapshots_bytes


def test_expected_scores_and_changes_are_elos():
    assert expected_score(1200, 1200) == 0.5
    assert expected_score(1600, 1200) == pytest.approx(10 / 11)
    ratings = Ratings(SelfPlayConfig(save_samples=1, k=16))
    ratings.opponents[1] = weaker = Opponent("0", 800.0)
    ratings.add(weaker, 0.0)
    assert ratings.rating == pytest.approx(1200 - 16 * 10 / 11)
    assert weaker.rating == pytest.approx(800 + 16 * 10 / 11)
    ratings.opponents[2] = equal = Opponent("9", ratings.rating)
    ratings.add(equal, 0.5)
    assert ratings.rating == equal.rating == pytest.approx(1200 - 16 * 10 / 11)
    ratings.add(None, 1.0)
    assert (ratings.rated, ratings.unrated) == (2, 1)
    assert ratings.scalars()["self_play/rated"] == pytest.approx(2 / 3)
    assert ratings.scalars()["self_play/win_rate"] == 0.25


def test_the_pool_is_the_newest_snapshots_and_all_fixed_opponents():
    ratings = Ratings(SelfPlayConfig(save_samples=1, window=2, fixed=["bot"]))
    ratings.opponents = {-2: Opponent("bot", 1200.0)} | {n: Opponent(str(n), 1200.0) for n in (1, 2, 3)}
    assert ratings.chances() == {2: 1.0, 3: 1.0, -2: 1.0}


def test_who_is_seldom_beaten_is_met_more_often():
    ratings = Ratings(SelfPlayConfig(save_samples=1, sampling=Sampling.prioritised))
    ratings.opponents = {n: Opponent(str(n), 1200.0) for n in (1, 2, 3)}
    for _ in range(5):
        ratings.add(ratings.opponents[1], 1.0)
        ratings.add(ratings.opponents[2], 0.0)
    chances = ratings.chances()
    assert chances[1] == 1e-3
    assert chances[2] == 1.0
    assert chances[3] == 0.25


def test_ratings_go_on_and_count_once_a_hundred_matches_were_rated():
    ratings = Ratings(SelfPlayConfig(save_samples=1))
    ratings.opponents[1] = Opponent("0", 1200.0)
    for place in range(100):
        assert saved_rating({"ratings": {"A": ratings.state()}}) is None
        ratings.add(ratings.opponents[1], float(place % 3 > 0))
    again = Ratings(SelfPlayConfig(save_samples=1))
    again.load_state(ratings.state())
    assert again.state() == ratings.state()
    assert saved_rating({"ratings": {"A": ratings.state()}}) == ratings.rating > 1200


def test_snapshots_that_act_are_not_written_over_and_those_that_are_gone_are_not_copied():
    settings = SelfPlayConfig(save_samples=1, window=2, opponents=2)
    memory = memoryview(bytearray(snapshots_bytes(3, settings)))
    learner, collector = Snapshots(memory, 3, settings), Snapshots(memory, 3, settings)
    flat = np.zeros(3, np.float32)
    learner.add(1, np.full(3, 1.0, np.float32), [1])
    collector.held[0] = 1
    for number in range(2, 12):
        learner.add(number, np.full(3, number, np.float32), [number - 1, number])
    assert collector.copy_to(flat, 1)
    assert flat.tolist() == [1, 1, 1]
    assert collector.copy_to(flat, 11)
    assert flat.tolist() == [11, 11, 11]
    assert not collector.copy_to(flat, 3)
    assert sorted(learner.kept([10, 11])) == [1, 10, 11]


def test_a_score_says_how_much_better_one_is():
    tally = Tally(wins=10, draws=0, losses=1)
    assert tally.rating_difference[0] == pytest.approx(400)
    assert Tally(3, 4, 3).rating_difference[0] == 0
    assert Tally(5, 0, 0).rating_difference[2] == float("inf")
    low, high = Tally(50, 20, 30).interval
    assert low < 0.6 < high
    names = ["a", "b", "c"]
    tallies = {("a", "b"): Tally(100, 0, 1000), ("a", "c"): Tally(10, 0, 1000), ("b", "c"): Tally(100, 0, 1000)}
    a, b, c = fitted_ratings(names, tallies)
    assert np.mean([a, b, c]) == pytest.approx(1200)
    assert b - a == pytest.approx(400, abs=3)
    assert c - b == pytest.approx(400, abs=3)
