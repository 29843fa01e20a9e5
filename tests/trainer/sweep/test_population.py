"""Population based training: who goes on with whose weights."""

from __future__ import annotations

from types import SimpleNamespace

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from trainer.sweep.population import Part, next_part
from trainer.sweep.space import Parameter

RATE = Parameter("algorithm.learning_rate", (), 0.1, 1.0)


@pytest.fixture
def plan():
    config = SimpleNamespace(seed=0, stop=SimpleNamespace(samples=1000))
    settings = SimpleNamespace(population=4, generations=4)
    return SimpleNamespace(config=config, settings=settings, maximize=True, parameters=(RATE,))


def ended(part: Part, number: int, score: float | None, rate: float = 0.5) -> tuple[optuna.trial.FrozenTrial, Part]:
    state = TrialState.COMPLETE if score is not None else TrialState.FAIL
    distributions = {RATE.name: FloatDistribution(0.1, 1.0)}
    trial = create_trial(state=state, value=score, params={RATE.name: rate}, distributions=distributions)
    trial.number = number
    return trial, part


def test_members_begin_by_chance_each_with_its_part_of_the_samples(plan):
    trials = []
    for number in range(4):
        part = next_part(trials, plan)
        assert part == Part(number, 0, 250)
        trials.append(ended(part, number, float(number)))
    assert next_part(trials, plan).member == 0


def test_the_worst_goes_on_with_the_weights_of_the_best_and_others_with_their_own(plan):
    first = [ended(Part(n, 0, 250), n, float(n), rate=0.2 + 0.2 * n) for n in range(4)]
    part = next_part(first, plan)
    assert (part.member, part.generation, part.parent, part.takes_over, part.stop) == (0, 1, 3, True, 250)
    assert 0.1 <= part.values[RATE.name] <= 1.0
    assert part.values[RATE.name] != 0.8
    running = create_trial(state=TrialState.COMPLETE, value=0.0)
    running.number, running.state, running.values = 4, TrialState.RUNNING, None
    part = next_part([*first, (running, part)], plan)
    assert part == Part(1, 1, 500, 1, False, {RATE.name: 0.4})


def test_less_may_be_better(plan):
    plan.maximize = False
    first = [ended(Part(n, 0, 250), n, 9.0 - n) for n in range(4)]
    assert next_part(first, plan).parent == 3


def test_a_member_that_failed_takes_over_the_best(plan):
    first = [ended(Part(n, 0, 250), n, float(n)) for n in range(3)] + [ended(Part(3, 0, 250), 3, None)]
    later = [ended(Part(n, 3, 1000, n), 4 + n, float(n)) for n in range(3)]
    part = next_part([*first, *later], plan)
    assert (part.member, part.parent, part.takes_over) == (3, 6, True)


def test_a_population_ends(plan):
    assert next_part([ended(Part(n, 3, 1000), n, 1.0) for n in range(4)], plan) is None
