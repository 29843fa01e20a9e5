"""What is said of runs that do not learn, and that nothing is said of those that do."""

import json

import numpy as np
import pytest

from trainer.telemetry.diagnosis import Diagnosis

HEALTHY = {
    "update/skipped_share": 0.0,
    "update/dropped_share": 0.02,
    "observations/constant": 0.0,
    "value/explained_variance": 0.6,
    "policy/entropy": 0.5,
    "policy/kl": 5e-3,
}
TROUBLES = {
    "value/explained_variance": (0.0, "Values explain nothing of the returns (explained variance 0.00): "),
    "policy/kl": (2e-6, "The policy hardly moves (KL 2e-06): raise algorithm.learning_rate or algorithm.epochs."),
    "policy/entropy": (1e-3, "The entropy is gone before the return has risen, so nothing new is tried: raise "),
    "policy/deviation": (1e-3, "The entropy is gone before the return has risen, so nothing new is tried: raise "),
    "update/skipped_share": (0.8, "80% of the gradient steps are skipped, because the loss is not finite: lower "),
    "update/dropped_share": (0.35, "35% of the samples come too late to be learned from: raise algorithm.max_lag, "),
    "constant/camera": (1.0, "Observation 'camera' never changes: look at what the environment sends "),
}


def series(metrics, returns, *, samples=100_000, rollout=2000, diagnosis=None, before=0):
    """A run with an interval for each rollout; `metrics` and `returns` are functions of the part that is done."""
    diagnosis = diagnosis or Diagnosis(judged=True)
    said, rng = [], np.random.default_rng(0)
    for update in range(1, samples // rollout + 1):
        done = update * rollout / samples
        for _ in range(5):
            diagnosis.add_episode(float(returns(done, rng)))
        said.append(
            diagnosis.add(before + update * rollout, {**HEALTHY, **metrics(done), "update/count": update + before})
        )
    return diagnosis, [each for each in said if each]


def noisy(done, rng):
    return rng.normal(-5, 1)


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_wrong_for_long_is_said_once_and_holds_to_the_end(name):
    value, words = TROUBLES[name]
    diagnosis, said = series(lambda _: {name: value}, noisy)
    assert [each[: len(words)] for each in said] == [words]
    assert diagnosis.sentence == said[0]


@pytest.mark.parametrize("name", TROUBLES)
def test_what_was_wrong_only_at_first_is_not_said(name):
    diagnosis, said = series(lambda done: {name: TROUBLES[name][0]} if done < 0.04 else {}, noisy)
    assert (diagnosis.sentence, said) == (None, [])


@pytest.mark.parametrize("name", TROUBLES)
def test_what_has_passed_is_no_longer_said(name):
    diagnosis, said = series(lambda done: {name: TROUBLES[name][0]} if done < 0.8 else {name: 0.5}, noisy)
    if name in ("update/dropped_share", "update/skipped_share"):
        diagnosis, said = series(lambda done: {name: TROUBLES[name][0]} if done < 0.8 else {}, noisy)
    if name == "constant/camera":
        diagnosis, said = series(lambda done: {name: 1.0} if done < 0.8 else {}, noisy)
    assert (diagnosis.sentence, len(said)) == (None, 1)


@pytest.mark.parametrize("name", ["value/explained_variance", "policy/kl", "policy/entropy", "policy/deviation"])
def test_of_a_run_that_has_reached_its_best_nothing_is_said(name):
    """As CartPole's: in the end all returns are 500, the entropy is near 0, and nothing is left to explain."""
    finished = {"value/explained_variance": -0.5, "policy/entropy": 1e-4, "policy/kl": 1e-7, "policy/deviation": 1e-3}

    def returns(done, rng):
        return rng.normal(20, 5) if done < 0.1 else min(500, 5000 * done)

    diagnosis, said = series(lambda done: {name: finished[name]} if done > 0.2 else {}, returns, samples=400_000)
    assert (diagnosis.sentence, said) == (None, [])


@pytest.mark.parametrize("name", ["value/explained_variance", "policy/kl"])
def test_while_all_returns_are_the_same_there_is_nothing_to_explain_and_no_way_to_move(name):
    diagnosis, said = series(lambda _: {name: TROUBLES[name][0]}, lambda done, rng: 0.0)
    assert (diagnosis.sentence, said) == (None, [])


@pytest.mark.parametrize("name", ["value/explained_variance", "policy/kl", "policy/entropy", "policy/deviation"])
def test_where_returns_do_not_tell_how_well_it_learns_the_policy_is_not_judged(name):
    """As after init=, with cloning, or where GAIL pays: the policy may have been good from the start."""
    diagnosis, said = series(lambda _: {name: TROUBLES[name][0]}, noisy, diagnosis=Diagnosis(judged=False))
    assert (diagnosis.sentence, said) == (None, [])


def test_a_healthy_run_that_does_not_rise_is_left_alone():
    diagnosis, said = series(lambda _: {}, noisy, samples=1_000_000)
    assert (diagnosis.sentence, said) == (None, [])


def test_a_single_good_interval_begins_the_window_again():
    good = {10, 20, 30, 40}
    diagnosis, said = series(lambda done: {} if round(done * 50) in good else {"policy/kl": 1e-6}, noisy)
    assert (diagnosis.sentence, said) == (None, [])


def test_between_its_two_bounds_a_rule_stays_as_it_was():
    diagnosis, said = series(lambda done: {"policy/kl": 1e-6 if round(done * 50) % 2 else 2e-5}, noisy)
    assert len(said) == 1
    assert diagnosis.sentence is not None


def test_intervals_without_updates_change_nothing():
    diagnosis = Diagnosis(judged=True)
    for interval in range(400):  # as of a slow game: an update every tenth interval
        diagnosis.add_episode(float(interval % 7))
        new = {"policy/kl": 1e-6, "value/explained_variance": 0.5} if interval % 10 == 0 else {}
        diagnosis.add(200 * interval, {**new, "update/count": interval // 10})
    assert diagnosis.sentence.startswith("The policy hardly moves (KL 1e-06)")


def test_of_several_things_the_most_important_is_said():
    values = {name: TROUBLES[name][0] for name in ("policy/kl", "update/dropped_share", "constant/camera")}
    diagnosis, said = series(lambda _: values, noisy)
    assert [each.split()[0] for each in said] == ["Observation"]
    assert diagnosis.sentence.startswith("Observation 'camera'")
    diagnosis, said = series(lambda _: {"constant/a": 1.0, "constant/b": 1.0}, noisy)
    assert said[0].startswith("Observations 'a', 'b' never change: look at ")
    assert said[0].endswith("or leave them out.")


def test_few_updates_or_few_samples_are_not_long():
    _, said = series(lambda _: {"policy/kl": 1e-6}, noisy, samples=200_000, rollout=20_000)
    assert said == []  # ten updates
    _, said = series(lambda _: {"policy/kl": 1e-6}, noisy, samples=10_000, rollout=100)
    assert said == []


def test_a_resumed_run_goes_on_and_does_not_say_the_same_again():
    diagnosis, said = series(lambda _: {"policy/kl": 1e-6}, noisy, samples=20_000)
    assert said == []
    again = Diagnosis(judged=True)
    again.load_state(json.loads(json.dumps(diagnosis.state())))
    again, said = series(lambda _: {"policy/kl": 1e-6}, noisy, samples=30_000, diagnosis=again, before=20_000)
    assert len(said) == 1
    third = Diagnosis(judged=True)
    third.load_state(json.loads(json.dumps(again.state())))
    assert third.sentence == again.sentence
    third, said = series(lambda _: {"policy/kl": 1e-6}, noisy, samples=30_000, diagnosis=third, before=50_000)
    assert said == []
