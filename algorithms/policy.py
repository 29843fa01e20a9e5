"""The policy of a behavior: what actors run, what learners improve.

Shapes: N rows, in Q sequences if there is a recurrent state, of R numbers (0 without); C continuous actions, D discrete
branches of the spec, B as they are chosen, K choices of the largest of these, A mask entries, P published numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from algorithms.metrics import mean
from algorithms.networks.custom import make_body
from algorithms.networks.distributions import Branches, Categorical, Deterministic, Gaussian, SquashedGaussian
from algorithms.networks.encoders import initialize, is_image
from algorithms.networks.inputs import is_normalized, marked, vector_order
from algorithms.networks.recurrent import make_recurrent_layer
from algorithms.ops.adam import place
from algorithms.settings import AlgorithmSettings, NetworkSettings, PolicyKind
from envs.spec import Array, BehaviorSpec, present


class ActionDistribution(NamedTuple):
    """The joint distribution of an action; a part that the spec lacks is None."""

    continuous: Gaussian | SquashedGaussian | Deterministic | None
    discrete: Categorical | None

    def log_prob(self, continuous: Tensor, discrete: Tensor) -> Tensor:
        """(N,) of hybrid actions over all their dimensions, (N, C) and (N, B) as they are chosen. Not if squashed."""
        parts = []
        if isinstance(self.continuous, Gaussian):
            parts.append(self.continuous.log_prob(continuous))
        if self.discrete is not None:
            parts.append(self.discrete.log_prob(discrete))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def log_probs(self, continuous: Tensor, discrete: Tensor) -> Tensor:
        """(N, C + B) of the same, each number and each branch by itself. Not if squashed."""
        parts = []
        if isinstance(self.continuous, Gaussian):
            parts.append(self.continuous.log_probs(continuous))
        if self.discrete is not None:
            parts.append(self.discrete.log_probs_of(discrete))
        return torch.cat(parts, dim=-1)

    def entropy(self, loss_mask: Tensor | None = None) -> Tensor:
        """() mean over rows, those of the `loss_mask` if it is given, summed over dimensions. Not if squashed."""
        parts = []
        if isinstance(self.continuous, Gaussian):
            parts.append(self.continuous.entropy())
        if self.discrete is not None:
            parts.append(mean(self.discrete.entropy().sum(-1), loss_mask))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def entropy_by_branch(self, loss_mask: Tensor | None = None) -> Tensor:
        """() mean over rows, summed over branches; continuous actions count as one, by their mean, as in ML-Agents."""
        parts = []
        if isinstance(self.continuous, Gaussian):
            parts.append(self.continuous.entropies().mean())
        if self.discrete is not None:
            parts.append(mean(self.discrete.entropy().sum(-1), loss_mask))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class Acted(NamedTuple):
    """What an actor does."""

    continuous: Array
    """(N, C) float32."""
    discrete: Array
    """(N, D) int32."""
    log_prob: Array
    """(N,) float32, joint over all actions."""
    recurrent_state: Array
    """(N, R) float32: the recurrent state after; R is 0 without a recurrent layer."""


def make_policy(spec: BehaviorSpec, settings: AlgorithmSettings) -> Policy:
    """Returns the policy that settings ask for, the same in the learner, in actors and after a run."""
    return Policy(spec, settings.network, settings.kind)


class Policy(nn.Module):
    """Observations to a distribution of actions, in any process: its layout follows from spec and settings alone.

    `kind` says how continuous actions are drawn. PPO's Gaussian is unbounded with one deviation for all states; that of
    SAC is squashed. A deterministic policy adds noise of the deviation `noise` (C,), which its algorithm sets. Actors
    get it beside the parameters.
    """

    shift: Tensor
    scale: Tensor
    noise: Tensor
    images: list[bool]
    """For each observation, whether it goes through a CNN."""
    normalized: list[bool]
    """For each observation, whether it is shifted and scaled; these come first in a network's input. No images are."""
    normalized_sizes: list[int]
    """How many numbers are normalised together: all of the vector that are, and those of an entity of each set."""
    vector_order: list[int]
    """The places of the observations in a network's vector: those that are normalised come first."""

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings, kind: PolicyKind) -> None:
        super().__init__()
        self.spec, self.network, self.kind = spec, settings, kind
        self.images = [is_image(observation, settings) for observation in spec.observations]
        self.normalized = [is_normalized(observation, settings) for observation in spec.observations]
        self.vector_order = vector_order(spec, settings)
        self.sets = [i for i, observation in enumerate(spec.observations) if observation.entities]
        vector = sum(math.prod(spec.observations[i].shape) for i in self.vector_order if self.normalized[i])
        entities = [spec.observations[i].shape[1] for i in self.sets if self.normalized[i]]
        self.normalized_sizes = [vector, *entities]
        self.normalized_size = sum(self.normalized_sizes)
        self.register_buffer("shift", torch.zeros(self.normalized_size), persistent=False)
        self.register_buffer("scale", torch.ones(self.normalized_size), persistent=False)
        noise = torch.full((spec.continuous_size * (kind == "deterministic"),), 0.1)
        self.register_buffer("noise", noise, persistent=False)
        self.encoder, self.trunk = make_body(spec, settings)
        self.branches = Branches(spec.branches, settings.joint_choices)
        continuous = spec.continuous_size * (2 if kind == "sac" else 1)
        self.recurrent_layer = make_recurrent_layer(self.trunk.features, settings.memory)
        self.state_size = settings.memory.numbers
        self.feature_size = self.trunk.features if self.recurrent_layer is None else self.recurrent_layer.features
        self.head = nn.Linear(self.feature_size, continuous + self.branches.count * self.branches.width)
        # Small first outputs: the policy starts close to uniform whatever the observations are.
        initialize(self.head, 0.01)
        gaussian = kind == "ppo" and spec.continuous_size > 0
        first = FIRST_LOG_STD if kind == "ppo" else 0.0
        if settings.initial_deviation is not None:
            first = math.log(settings.initial_deviation)
        self.log_std = nn.Parameter(torch.full((spec.continuous_size,), first)) if gaussian else None
        if kind == "sac":
            nn.init.constant_(self.head.bias[spec.continuous_size : continuous], first)
        self.flat = torch.empty(sum(tensor.numel() for tensor in self._published()))
        self.move_to(self.flat)

    @property
    def parameter_start(self) -> int:
        """Where in `flat` the normaliser's statistics and the noise end and the parameters begin."""
        return 2 * self.normalized_size + self.noise.numel()

    def move_to(self, vector: Tensor) -> None:
        """Makes everything published a view of `vector` (P,), on its device; values are kept."""
        self.branches.to(vector.device)
        place(self._published(), vector)
        self.flat = vector

    def prepare(self, observations: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Raw observations, each (N, *shape), to a network's inputs (see `algorithms.networks.inputs`)."""
        statistics = iter([(self.shift, self.scale)])
        if self.sets:
            parts = (torch.split(each, self.normalized_sizes) for each in (self.shift, self.scale))
            statistics = iter(list(zip(*parts)))
        shift, scale = next(statistics)
        vectors, sets = [], []
        normalized = [observations[i].flatten(1) for i in self.vector_order if self.normalized[i]]
        if normalized:
            joined = normalized[0] if len(normalized) == 1 else torch.cat(normalized, dim=-1)
            vectors.append(self._normalize(joined, shift, scale))
        others = [i for i in self.vector_order if not self.normalized[i]]
        vectors += [observations[i].flatten(1).float() * self.spec.observations[i].scale for i in others]
        if not vectors:
            vectors.append(observations[0].new_zeros((len(observations[0]), 0), dtype=torch.float32))
        images = [x for x, image in zip(observations, self.images) if image]
        for i in self.sets:
            entities, there = observations[i], marked(observations[i])
            if self.normalized[i]:
                entities = self._normalize(entities, *next(statistics)) * there
            sets.append(torch.cat([entities, there], dim=-1))
        return (vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1), *images, *sets)

    def _normalize(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return ((x - shift) * scale).clamp(-self.network.clip_inputs, self.network.clip_inputs)

    @torch.no_grad()
    def bound(self) -> None:
        """Moves a deviation that a gradient step has taken out of its bounds back to them."""
        if self.log_std is not None:
            self.log_std.clamp_(*LOG_STD_RANGE)

    def normalized_rows(self, observations: Sequence[Array]) -> list[Array]:
        """For each of `normalized_sizes` (any, D): the raw numbers that the normaliser's statistics are about.

        Of observations that are not normalised nothing is looked at.
        """
        vectors = [observations[i].reshape(len(observations[i]), -1) for i in self.vector_order if self.normalized[i]]
        sets = [observations[i] for i in self.sets if self.normalized[i]]
        rows = np.concatenate(vectors, axis=1) if vectors else sets[0].reshape(len(sets[0]), -1)[:, :0]
        return [rows, *(entities[present(entities)] for entities in sets)]

    def features(self, inputs: Sequence[Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F) output of the layer before the head, and the state (Q, R) after each sequence, from that before it.

        The N inputs are Q sequences of one length, one after another; zeros are the state of an episode's beginning.
        """
        features: Tensor = self.trunk(self.encoder(inputs))
        return (features, state) if self.recurrent_layer is None else self.recurrent_layer(features, state)

    def distribution(self, features: Tensor, mask: Tensor) -> ActionDistribution:
        """Distribution of the actions from features (N, F) under a mask (N, A), A = 0 for none."""
        return self.distribution_of(self.head(features), mask)

    def distribution_of(self, outputs: Tensor, mask: Tensor) -> ActionDistribution:
        """The same from the head's outputs (N, O): a mean for each action, a deviation if squashed, then the logits."""
        size, choices = self.spec.continuous_size, self.branches.count * self.branches.width
        if not size:
            return ActionDistribution(None, self.branches.categorical(outputs, mask))
        sizes = [size, outputs.shape[1] - size - choices, choices]  # the second is 0 but for squashed Gaussians
        mean, log_std, *logits = torch.split(outputs, sizes if choices else sizes[:2], dim=-1)
        continuous: Gaussian | SquashedGaussian | Deterministic
        if self.log_std is not None:
            scale = self.network.action_scale
            continuous = Gaussian(mean if scale == 1 else mean * scale, self.log_std)
        elif self.kind == "deterministic":
            continuous = Deterministic(mean, self.noise)
        else:  # a hard tanh is a clamp whose gradient is one operation
            continuous = SquashedGaussian(mean, F.hardtanh(log_std, *LOG_STD_RANGE))
        return ActionDistribution(continuous, self.branches.categorical(logits[0], mask) if choices else None)

    def forward(self, inputs: Sequence[Tensor], mask: Tensor, state: Tensor) -> ActionDistribution:
        """Distribution of the actions from prepared inputs, as for `features`."""
        return self.distribution(self.features(inputs, state)[0], mask)

    @torch.inference_mode()
    def act(
        self,
        observations: Sequence[Array],
        mask: Array,
        state: Array,
        generator: Generator | None,
        deterministic: bool = False,
    ) -> Acted:
        """Actions for raw observations, each (N, *shape), under a mask (N, A), from the recurrent state (N, R) before.

        Where `deterministic` takes the likeliest action, log-probabilities are 0.
        """
        device = self.flat.device
        if mask.all():
            mask = mask[:, :0]  # nothing is forbidden, the usual case: a third of the operations less
        inputs = self.prepare([torch.from_numpy(x).to(device) for x in observations])
        features, after = self.features(inputs, torch.from_numpy(state).to(device))
        distribution = self.distribution(features, torch.from_numpy(mask).to(device))
        rows = len(state)
        continuous = np.empty((rows, 0), np.float32)
        discrete = np.empty((rows, 0), np.int32)
        log_prob = torch.zeros(rows, device=device)
        if distribution.continuous is not None:
            if deterministic:
                actions = distribution.continuous.mode()
            else:
                actions, log_prob = distribution.continuous.sample(generator)
            continuous = actions.cpu().numpy()
        if distribution.discrete is not None:
            choices = distribution.discrete.mode() if deterministic else distribution.discrete.sample(generator)
            if not deterministic:
                log_prob = log_prob + distribution.discrete.log_prob(choices)
            discrete = self.branches.choices(choices).int().cpu().numpy()
        return Acted(continuous, discrete, log_prob.cpu().numpy(), after.cpu().numpy())

    def _published(self) -> list[Tensor]:
        return [self.shift, self.scale, self.noise, *self.parameters()]


FIRST_LOG_STD = -0.5
"""Log deviation of the unbounded Gaussian at the start, unless settings ask for another; that of SAC begins at 0."""
LOG_STD_RANGE = (-10.0, 2.0)
"""Bounds of a log deviation."""
