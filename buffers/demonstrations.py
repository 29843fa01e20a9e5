"""Demonstrations as rows: drawn, followed and scored like those of any agent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, Demonstration


def demonstration_rows(spec: BehaviorSpec, demonstrations: Sequence[Demonstration], state_size: int = 0) -> Rows:
    """Rows of a buffer that holds just these demonstrations, all of them linked; at least one step is needed.

    An actor's recurrent state of `state_size` numbers is not known at their steps: zeros.
    """
    layout = Layout(spec, state_size)
    unknown = np.zeros((1, state_size), np.float32)
    # Replay leaves the oldest rows of a full buffer alone, which a writer may come upon: so it is never full.
    capacity = 2 * sum(len(each.rewards) + 1 for each in demonstrations) + 16
    rows = Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)
    writer, agent = Writer(rows), np.zeros(1, np.int64)
    for each in demonstrations:
        last = len(each.rewards) - 1
        for step in range(last + 1):
            ended = np.array([step == last])
            part, kept = slice(step, step + 1), slice(None) if step == last else slice(0, 0)
            seen = tuple(observation[part] for observation in each.observations)
            acted = each.continuous[part], each.discrete[part], np.zeros(1, np.float32), 0
            result = each.rewards[part], ended & each.terminated, ended & (not each.terminated)
            final = tuple(observation[kept] for observation in each.final_observations), each.final_mask[kept]
            state = unknown, np.array([step]), unknown[kept]
            writer.append(agent, seen, each.mask[part], *acted, *result, *final, *state)
    return rows
