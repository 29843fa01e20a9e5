"""Makes the channel of a behavior with self-play, with all that acts as its opponents."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from buffers.rows import Writer
from envs.spec import Array, BehaviorSpec
from trainer.config.schema import TrainConfig, behavior_config
from trainer.runtime.actor import GPU, PolicyActor
from trainer.selfplay.channel import SelfPlayChannel
from trainer.selfplay.matches import Matches
from trainer.selfplay.opponents import Opponents, Pinned
from trainer.selfplay.players import find_player
from trainer.selfplay.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable

    from algorithms.policy import Policy

_APART = 1 << 20
"""Between the seeds of a behavior's own actions and those of its opponents."""


def open_channel(
    config: TrainConfig,
    policy: Policy,
    actor: PolicyActor,
    parts: tuple[BehaviorSpec, Writer, Array, Callable[[], int], dict[int, str]],
    snapshots: Snapshots,
    matches: Matches,
    seed: int,
) -> SelfPlayChannel:
    """Returns the channel of a behavior, whose opponents act where its own `actor` does.

    Args:
        config: of the run.
        policy: of the behavior, of which opponents have copies.
        actor: acts with the newest weights.
        parts: spec, writer, counters, the samples of all behaviors and the owners of groups, as `Channel` takes them.
        snapshots: of the policy.
        matches: those of all behaviors.
        seed: of the behavior's noise.

    Raises:
        UserError: a fixed opponent is missing, or does not fit.
    """
    spec, writer, counters, total, group_owners = parts
    settings = behavior_config(config, spec.name).self_play
    seed = (seed + _APART) % 2**62

    def make_actor(weights: Pinned, seed: int) -> PolicyActor:
        copied = copy.deepcopy(policy)
        copied.move_to(policy.flat.clone())  # a copy's parameters are no views of its vector any more
        return PolicyActor(copied, weights, seed, GPU if actor.on_gpu else None)

    fixed = [
        find_player(path, spec, "self_play.fixed", seed=seed - 1 - place, trust=config.trust)
        for place, path in enumerate(settings.fixed)
    ]
    opponents = Opponents(spec, settings, snapshots, make_actor, policy.state_size, fixed, seed)
    return SelfPlayChannel(spec, actor, writer, counters, total, group_owners, matches, opponents, settings.result)
