"""Policy and buffer of a behavior, from its spec and the config alone, so that learner and collector agree."""

from __future__ import annotations

from algorithms.policy import Policy
from algorithms.settings import AlgorithmSettings
from buffers.rows import Layout, Rows
from envs.spec import BehaviorSpec, UserError
from trainer.runtime.policy_store import weights_bytes

_MIB = 2**20


def make_policy(spec: BehaviorSpec, settings: AlgorithmSettings) -> Policy:
    """The behavior's policy as learner and actors know it."""
    return Policy(spec, settings.network, settings.kind)


def divide_arena(
    arena: memoryview, policy: Policy, spec: BehaviorSpec, settings: AlgorithmSettings
) -> tuple[memoryview, Rows]:
    """The behavior's bytes as two slots of weights and the rows behind them; UserError if the asked rows do not fit."""
    weights = weights_bytes(policy.flat.numel())
    layout = Layout(spec, policy.memory_size)
    fitting = layout.capacity(max(0, len(arena) - weights))
    least = settings.min_rows() if settings.buffer_capacity is None else settings.buffer_capacity
    if fitting < least:
        needed = -(-(weights + layout.row_bytes * least) // _MIB) + 1
        raise UserError(
            f"{spec.name}: {least:,} rows of {layout.row_bytes:,} bytes and the weights need {needed:,} MiB, but "
            f"algorithm.buffer_memory_mib is {len(arena) // _MIB:,}: raise it to {needed:,}, or ask for fewer rows"
        )
    return arena[:weights], Rows(layout, arena[weights:], settings.buffer_capacity or fitting)
