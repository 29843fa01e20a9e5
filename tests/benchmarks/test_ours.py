from itertools import islice

import numpy as np
import pytest

from benchmarks.laws import durations
from benchmarks.ours import Ours
from benchmarks.tasks import Task
from envs.gym.adapter import GymEnv
from envs.seeding import episode_seed

SCALE = 20.0
TASK = Task(GymEnv("benchmarks.laws:StepLaw-v0", {"law": "lognormal"}, time_scale=SCALE), instances=3, seed=1)


@pytest.mark.parametrize("lockstep", [False, True])
def test_spans_hold_exactly_the_drawn_durations_and_samples_are_rows(lockstep):
    ours = Ours(TASK, lockstep)
    ours.start()
    try:
        first, second = ours.round(0.5), ours.round(0.5)
        rows = ours._rows
        by_instance = np.bincount(rows.fields["agent"][1 : rows.head + 1], minlength=3)
    finally:
        ours.close()
    assert first.samples + second.samples <= rows.samples <= first.samples + second.samples + 2 * TASK.instances
    for instance in range(3):
        expected = [s / SCALE for s in islice(durations("lognormal", episode_seed(1, instance, 0)), 400)]
        done = first.spans[instance].samples + 1
        assert first.spans[instance].drawn == pytest.approx(sum(expected[1:done]))
        # Between the rounds one more step may complete, which belongs to neither.
        sums = [sum(expected[start + 1 : start + 1 + second.spans[instance].samples]) for start in (done, done + 1)]
        assert any(second.spans[instance].drawn == pytest.approx(each) for each in sums)
        assert done + second.spans[instance].samples + 1 <= by_instance[instance]
    if lockstep:
        assert len({span.samples for span in first.spans}) == 1
