"""POCA's critic: what a group of any size is worth, and what it would be worth whatever one agent did.

An agent that is only seen and one whose action is known, too, are two kinds of entities. The value is that of all
agents seen. The baseline of an agent is that of its teammates with their actions, and of itself without its own: so it
tells what the agent's action has changed, as the teammates' are the same in both (arXiv 2111.05992, section 4).

Shapes: N rows, E entities of a row, F features, X numbers of an action, R numbers of the recurrent state, V values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.networks.attention import SelfAttention, layer_norm
from algorithms.networks.custom import make_encoder
from algorithms.networks.encoders import initialize
from algorithms.networks.mlp import ACTIVATIONS, MLP
from algorithms.policy import Policy
from buffers.rollout import Sequences
from envs.spec import Array


class Group(NamedTuple):
    """What a critic knows of the groups of N agents, beside what these agents see."""

    state: Tensor
    """(N, R) the actor's recurrent state of each agent before the step."""
    inputs: tuple[Tensor, ...]
    """What the U teammates of all see, each once, as `Policy.prepare` makes them."""
    states: Tensor
    """(U, R) their recurrent states."""
    actions: Tensor
    """(U, X) what they do."""
    places: Tensor
    """(N, G) int64, which of them each agent's are."""
    present: Tensor
    """(N, G) bool, whether there is one."""
    stale: Tensor
    """(N, G) float32, 1 where it had decided before."""

    def take(self, rows: Tensor) -> Group:
        """Returns that of some agents."""
        return self.each(lambda x: x.index_select(0, rows))

    def part(self, rows: slice) -> Group:
        """Returns that of agents that stand one after another."""
        return self.each(lambda x: x[rows])

    def each(self, chosen: Callable[[Tensor], Tensor]) -> Group:
        """Returns the same of other agents, as `chosen` takes them from those here."""
        places, present, stale = map(chosen, self[4:])
        return Group(chosen(self.state), *self[1:4], places, present, stale)


class GroupCritic(nn.Module):
    """Values and baselines, by the same layers behind the entities.

    It has no recurrent state of its own: each agent's is a part of what it sees, that of the actor when it acted.
    """

    own = None
    recurrent_layer = None
    state_size = 0

    def __init__(self, policy: Policy, action_size: int, count: int, most: int) -> None:
        """`action_size` is X, `count` V, and `most` the agents of the largest group."""
        super().__init__()
        network = policy.network
        self._most, self._activate = most, ACTIVATIONS[network.activation]
        size = network.hidden[0] if network.hidden else LEAST_SIZE
        self.encoder = make_encoder(policy.spec, network)
        seen = self.encoder.features + policy.state_size + 1  # whether it is stale
        self.observed = nn.Linear(seen, size)
        self.acting = nn.Linear(seen + action_size, size)
        for layer in (self.observed, self.acting):
            initialize(layer, math.sqrt(2))
        self.attention = SelfAttention(size, HEADS if size % HEADS == 0 else 1)
        self.trunk = MLP(size, network.hidden, network.activation)
        self.head = nn.Linear(self.trunk.features + 1, count)  # how many there are
        initialize(self.head, 1.0)

    def forward(self, inputs: Sequence[Tensor], group: Group) -> tuple[Tensor, Tensor]:
        """Returns values and baselines (N, V) of agents from their inputs, and what is known of their groups."""
        own, others = self._encode(inputs, group)
        actions = group.actions[group.places]
        itself = self._entity(self.observed, own)
        observed = torch.cat([itself, self._entity(self.observed, others)], dim=1)
        acting = torch.cat([itself, self._entity(self.acting, torch.cat([others, actions], dim=-1))], dim=1)
        present = F.pad(group.present, (1, 0), value=True)
        both = self._judge(torch.cat([observed, acting]), torch.cat([present, present]))
        values, baselines = both.chunk(2)
        return values, baselines

    def values(self, inputs: Sequence[Tensor], group: Group, gone: Tensor) -> Tensor:
        """Returns values (N, V) alone, without those agents that are `gone` (N,) bool."""
        entities = self._entity(self.observed, torch.cat(self._encode(inputs, group), dim=1))
        return self._judge(entities, torch.cat([~gone[:, None], group.present], dim=1))

    def replay(
        self, inputs: Sequence[Tensor], sequences: Sequences, ends: Array, state: Tensor, rows_at_once: int
    ) -> tuple[Tensor, Tensor]:
        """Returns states of no numbers before Q sequences and behind S segments, as of `algorithms.ppo.value`."""
        return state.new_zeros(len(sequences.rows), 0), state

    def _encode(self, inputs: Sequence[Tensor], group: Group) -> tuple[Tensor, Tensor]:
        """Returns what agents (N, 1, F) and their teammates (N, G, F) see, as numbers."""
        rows, most = group.places.shape
        own = torch.cat([self.encoder(inputs), group.state], dim=-1)
        others = own.new_zeros(rows, 0, own.shape[1])
        if most:
            places = group.places.flatten()
            seen = self.encoder([x.index_select(0, places) for x in group.inputs])
            others = torch.cat([seen, group.states.index_select(0, places)], dim=-1).view(rows, most, -1)
        return F.pad(own, (0, 1))[:, None], torch.cat([others, group.stale[..., None]], dim=-1)

    def _entity(self, layer: nn.Linear, seen: Tensor) -> Tensor:
        return self._activate(layer(seen))

    def _judge(self, entities: Tensor, present: Tensor) -> Tensor:
        """Returns (N, V) of entities (N, E, F), of which those count that are `present` (N, E) bool."""
        there = present[..., None]
        entities = self.attention(layer_norm(entities), there) * there
        features = self.trunk(entities.sum(1) / there.sum(1).clamp(min=1))
        share = 2 * present.sum(1, keepdim=True, dtype=features.dtype) / self._most - 1
        judged: Tensor = self.head(torch.cat([features, share], dim=-1))
        return judged


HEADS = 4
"""Of the attention, where the features of an entity can be divided by it; else one."""
LEAST_SIZE = 64
"""Features of an entity, where a network has no hidden layers."""
