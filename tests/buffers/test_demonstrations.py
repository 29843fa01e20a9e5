"""Demonstrations become rows that replay sequences like any others."""

from __future__ import annotations

import numpy as np
import pytest

from buffers.demonstrations import demonstration_rows
from buffers.replay import Replay
from envs.spec import BehaviorSpec, Demonstration, ObservationSpec

SPEC = BehaviorSpec("toy", (ObservationSpec("step", (1,), "float32"),), 1, (3,), masked=True)


def demonstration(steps: int, first: int, terminated: bool) -> Demonstration:
    counted = np.arange(first, first + steps, dtype=np.float32)
    final = 0 if terminated else 1
    return Demonstration(
        observations=(counted[:, None],),
        mask=np.ones((steps, 3), np.bool_),
        continuous=counted[:, None] / 100,
        discrete=np.full((steps, 1), 2, np.int32),
        rewards=counted,
        terminated=terminated,
        final_observations=(np.full((final, 1), first + steps, np.float32),),
        final_mask=np.zeros((final, 3), np.bool_),
    )


def test_every_step_can_be_drawn_and_walks_stay_in_their_episode() -> None:
    rows = demonstration_rows(
        SPEC, [demonstration(4, 10, True), demonstration(3, 20, False), demonstration(1, 30, True)]
    )
    batch = Replay(rows).sample(np.random.default_rng(0), 500, 3, 0.5)
    start = batch.observations[0][:, 0, 0]
    assert set(start.tolist()) == {10, 11, 12, 13, 20, 21, 22, 30}
    assert np.array_equal(batch.rewards[:, 0], start)
    assert np.allclose(batch.continuous[:, 0, 0], start / 100)
    for begun, taken, discount, reached in zip(
        start, batch.valid.sum(1), batch.bootstrap_discount[:, 0], batch.observations[0][:, -1, 0]
    ):
        left = {1: 14, 2: 23, 3: 31}[begun // 10] - begun
        assert taken == min(3, left)
        terminates = begun != 2 and begun // 10 != 2 and left <= 3
        assert discount == (0 if terminates else 0.5**taken)
        assert reached == (0 if terminates else begun + taken)


def test_no_step_is_no_buffer() -> None:
    with pytest.raises(ValueError, match="no row to draw"):
        Replay(demonstration_rows(SPEC, [])).sample(np.random.default_rng(0), 4, 1, 0.9)
