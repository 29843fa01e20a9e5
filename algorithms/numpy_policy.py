"""Acting without torch: a policy of vectors, an MLP, perhaps a recurrent layer, and a head, in few numpy calls.

`Policy` says what is computed here. One decision is hardly any arithmetic, and torch takes longer to get to it, most of
all in a process that has just slept, as a collector has. Microseconds of an `act` on one core, from torch's to numpy's
(PPO with one branch; SAC's squashed Gaussian in the last line):

| network    | rows | one after another | after 3 ms of sleep |
|------------|------|-------------------|---------------------|
| 2 x 64     |    1 |         196 to 66 |          896 to 271 |
| 2 x 64     |   64 |        253 to 101 |          967 to 317 |
| 2 x 256    |    1 |         227 to 76 |         1023 to 333 |
| 2 x 256    |   64 |        393 to 252 |         1097 to 530 |
| 2 x 512    |  256 |      1959 to 1853 |        2520 to 2090 |

Torch comes level with wide networks and many rows but is nowhere ahead, so no rule chooses by size.

Shapes: N rows, H units, R numbers of the recurrent state, C continuous actions, D discrete branches of the spec, B as
they are chosen, K choices of the largest of these, A mask entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from torch import Tensor, nn

from algorithms.networks.distributions import FORBIDDEN, LOG_ROOT
from algorithms.networks.inputs import Encoder, vector_size
from algorithms.networks.mlp import MLP
from algorithms.networks.recurrent import RecurrentLayer
from algorithms.numpy_attention import NumpyAttention
from algorithms.policy import LOG_STD_RANGE, Acted, Policy
from algorithms.settings import Activation
from envs.spec import Array, present


class NumpyActor:
    """Draws actions as `Policy.act` does, from views of the policy's numbers: what is written to `policy.flat` counts.

    The policy must fit, and must not move to another vector afterwards.
    """

    def __init__(self, policy: Policy) -> None:
        spec, branches = policy.spec, policy.branches
        self._shift, self._scale = _view(policy.shift), _view(policy.scale)
        encoder = cast(Encoder, policy.encoder)
        self._normalized_size, self._inputs = policy.normalized_sizes[0], vector_size(spec, policy.network)
        largest = policy.network.clip_inputs
        self._least, self._largest = (np.array(number, np.float32) for number in (-largest, largest))
        self._parts = _parts(policy)
        trunk = cast(MLP, policy.trunk)
        self._layers = [_layer(layer) for layer in trunk.layers]
        self._recurrent_layer = None if policy.recurrent_layer is None else _NumpyRecurrentLayer(policy.recurrent_layer)
        self._activate = _ACTIVATIONS[trunk.activation]
        self._attention = None
        if encoder.attention is not None:
            self._attention = NumpyAttention(encoder.attention, _layer, _ACTIVATIONS[encoder.attention.activation])
        self._sets, start = list[tuple[int, Array, Array]](), self._normalized_size
        for i in policy.sets:
            end = start + spec.observations[i].shape[1] * policy.normalized[i]
            self._sets.append((i, self._shift[start:end], self._scale[start:end]))
            start = end
        self._head = _layer(policy.head)
        self._size = spec.continuous_size
        self._log_std = None if policy.log_std is None else _view(policy.log_std)
        self._mean_scale = np.array(policy.network.action_scale, np.float32)
        self._noise = _view(policy.noise) if policy.kind == "deterministic" else None
        self._count, self._width = branches.count, branches.width
        self._joint, self._combinations = branches.joint, branches.combinations.numpy()  # (K, D)
        self._real = ~branches.padding.numpy()  # (D, K), or of the largest branch of a spec whose choices are joint
        self._positions = branches.positions.numpy()  # (A,)
        self._padded = not self._real.all()
        self._starts = self._starts_of(1)

    @staticmethod
    def fits(policy: Policy) -> bool:
        """Whether it can act for a policy: on the CPU, vectors only, and nothing that this file does not know."""
        known = (type(policy), type(policy.encoder), type(policy.trunk), type(policy.head))
        if known != (Policy, Encoder, MLP, nn.Linear) or type(policy.recurrent_layer) not in (
            RecurrentLayer,
            type(None),
        ):
            return False
        return not cast(Encoder, policy.encoder).images and policy.flat.is_cpu

    def act(self, observations: Sequence[Array], mask: Array, state: Array, generator: np.random.Generator) -> Acted:
        """Sampled actions for raw observations, each (N, *shape), under a mask (N, A), A = 0 for none.

        They follow from the recurrent state (N, R) before.
        """
        x = self._prepare(observations)
        if self._attention is not None:
            x = np.concatenate([x, self._attention.features(x, *self._entities(observations))], axis=1)
        for weight, bias in self._layers:
            x = x.dot(weight)
            x += bias
            self._activate(x)
        if self._recurrent_layer is not None:
            x, state = self._recurrent_layer.step(x, state)
        weight, bias = self._head
        outputs = x.dot(weight)
        outputs += bias
        rows = len(outputs)
        if not self._size:
            continuous, log_prob = np.empty((rows, 0), np.float32), None
        elif self._noise is not None:
            noise = generator.standard_normal((rows, self._size), np.float32) * self._noise
            continuous = (np.tanh(outputs[:, : self._size]) + noise).clip(LEAST_ACTION, -LEAST_ACTION)
            log_prob = None
        elif self._log_std is not None:
            mean = outputs[:, : self._size]
            mean *= self._mean_scale
            continuous, log_prob = _gaussian(mean, self._log_std, generator)
        else:
            log_std = outputs[:, self._size : 2 * self._size].clip(*LOG_STD_RANGE)
            continuous, log_prob = _squashed_gaussian(outputs[:, : self._size], log_std, generator)
        if not self._count:
            discrete = np.empty((rows, 0), np.int32)
            return Acted(continuous, discrete, np.zeros(rows, np.float32) if log_prob is None else log_prob, state)
        logits = outputs[:, -self._count * self._width :].reshape(rows, self._count, self._width)
        discrete, chosen = self._choose(logits, mask, generator)
        return Acted(continuous, discrete, chosen if log_prob is None else log_prob + chosen, state)

    def _prepare(self, observations: Sequence[Array]) -> Array:
        """(N, inputs): what `Policy.prepare` makes of them."""
        rows = len(observations[0])
        x = np.empty((rows, self._inputs), np.float32)
        for observation, start, end, scale in self._parts:
            part = observations[observation].reshape(rows, -1)
            if scale is None:
                np.subtract(part, self._shift[start:end], out=x[:, start:end])
            else:
                np.multiply(part, scale, out=x[:, start:end], dtype=np.float32)
        if self._normalized_size:
            vectors = x[:, : self._normalized_size]
            vectors *= self._scale[: self._normalized_size]
            np.minimum(vectors, self._largest, out=vectors)
            np.maximum(vectors, self._least, out=vectors)
        return x

    def _entities(self, observations: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Sets (N, K, D) as networks get them, and which entities are there (N, K) bool."""
        sets, there = [], []
        for i, shift, scale in self._sets:
            entities = observations[i]
            marks = present(entities)
            if len(shift):
                entities = entities - shift
                entities *= scale
                np.minimum(entities, self._largest, out=entities)
                np.maximum(entities, self._least, out=entities)
                entities *= marks[..., None]
            sets.append(entities)
            there.append(marks)
        return sets, there

    def _choose(self, logits: Array, mask: Array, generator: np.random.Generator) -> tuple[Array, Array]:
        """Choices (N, D) int32 and their log-probabilities (N,), of logits (N, B, K) under a mask (N, A)."""
        if np.count_nonzero(mask) != mask.size:
            logits = np.where(self._allowed(mask), logits, FORBIDDEN_LOGIT)
        elif self._padded and not self._joint:
            logits = np.where(self._real, logits, FORBIDDEN_LOGIT)
        shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
        bounds = np.add.accumulate(np.exp(shifted), axis=-1)
        totals = bounds[..., -1:]
        # A draw lies in [0, 1 - 2^-24], and such a part of a total never rounds to it: the first bound above always
        # exists, and belongs to a choice whose probability is not 0.
        draws = generator.random(totals.shape, np.float32)
        draws *= totals
        choices = (bounds > draws).argmax(-1)
        if len(self._starts) < len(choices):
            self._starts = self._starts_of(len(choices))
        log_probs = shifted.take(choices + self._starts[: len(choices)])
        log_probs -= np.log(totals[..., 0])
        if self._joint:
            choices = self._combinations.take(choices[:, 0], axis=0)
        return choices.astype(np.int32), np.add.reduce(log_probs, axis=-1)

    def _allowed(self, mask: Array) -> Array:
        """(N, B, K) of a mask (N, A); a branch that it allows nothing counts as unmasked: see `Branches.forbidden`."""
        if self._padded:
            padded = np.zeros((len(mask), self._real.size), np.bool_)
            padded[:, self._positions] = mask
            mask = padded
        allowed = mask.reshape(-1, *self._real.shape)
        possible = allowed.any(-1, keepdims=True)
        separate: Array = np.where(possible, allowed, self._real)
        if not self._joint:
            return separate
        together: Array = np.logical_and.reduce(separate[:, np.arange(len(self._real)), self._combinations], axis=-1)
        return together[:, None]

    def _starts_of(self, rows: int) -> Array:
        """(rows, B): where each row's branches start in flattened logits."""
        return np.arange(rows * self._count).reshape(rows, self._count) * self._width


class _NumpyRecurrentLayer:
    """One step of `RecurrentLayer` at a time."""

    def __init__(self, recurrent: RecurrentLayer) -> None:
        self._size = recurrent.features
        self._gated = isinstance(recurrent.layer, nn.LSTM)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        inner, outer, inner_bias, outer_bias = (_view(recurrent.layer.get_parameter(name)) for name in names)
        self._inner, self._outer, self._inner_bias, self._outer_bias = inner.T, outer.T, inner_bias, outer_bias

    def step(self, x: Array, state: Array) -> tuple[Array, Array]:
        """Outputs (N, H) and the recurrent state after (N, R), of features and the state before."""
        size = self._size
        inner = x.dot(self._inner)
        inner += self._inner_bias
        outer = state[:, :size].dot(self._outer)
        outer += self._outer_bias
        return self._lstm(inner, outer, state) if self._gated else self._gru(inner, outer, state)

    def _lstm(self, inner: Array, outer: Array, state: Array) -> tuple[Array, Array]:
        """Gates are in, keep, new, out."""
        size = self._size
        inner += outer
        gates = np.split(inner, 4, axis=1)
        new = np.tanh(gates[2])
        taken, kept, shown = (_sigmoid(gates[gate]) for gate in (0, 1, 3))
        after = np.empty((len(inner), 2 * size), np.float32)
        output, cell = after[:, :size], after[:, size:]
        np.multiply(kept, state[:, size:], out=cell)
        new *= taken
        cell += new
        np.tanh(cell, out=output)
        output *= shown
        return output, after

    def _gru(self, inner: Array, outer: Array, state: Array) -> tuple[Array, Array]:
        """Gates are reset, keep, new."""
        size = self._size
        gates = _sigmoid(inner[:, : 2 * size] + outer[:, : 2 * size])
        new = outer[:, 2 * size :]
        new *= gates[:, :size]
        new += inner[:, 2 * size :]
        np.tanh(new, out=new)
        output = state - new
        output *= gates[:, size:]
        output += new
        return output, output


# Arrays without an axis: ufuncs take them twice as fast as numbers.
ZERO, HALF, MINUS_TWO = (np.array(number, np.float32) for number in (0, 0.5, -2))
LEAST_ACTION = np.array(-1, np.float32)
FORBIDDEN_LOGIT = np.array(FORBIDDEN, np.float32)


def _parts(policy: Policy) -> list[tuple[int, int, int, np.float32 | None]]:
    """Returns observations, where in the network's input they begin and end, and their scales, None if normalised."""
    parts, start = [], 0
    for index in policy.vector_order:
        observation = policy.spec.observations[index]
        end = start + math.prod(observation.shape)
        parts.append((index, start, end, None if policy.normalized[index] else np.float32(observation.scale)))
        start = end
    return parts


def _sigmoid(x: Array) -> Array:
    """In place; a tanh does not overflow, an exponential would."""
    x *= HALF
    np.tanh(x, out=x)
    x *= HALF
    x += HALF
    return x


def _silu(x: Array) -> None:
    x *= _sigmoid(x.copy())


_ACTIVATIONS: dict[Activation, Callable[[Array], object]] = {
    Activation["relu"]: lambda x: np.maximum(x, ZERO, out=x),
    Activation["silu"]: _silu,
    Activation["tanh"]: lambda x: np.tanh(x, out=x),
}
"""All of them in place."""


def _layer(layer: nn.Module) -> tuple[Array, Array]:
    """Views of a linear layer's weights, as (inputs, outputs), and of its biases."""
    weight, bias = layer.parameters()
    return _view(weight).T, _view(bias)


def _view(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def _gaussian(mean: Array, log_std: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Draws (N, C) and their log-probabilities (N,), of means (N, C) and log deviations (C,)."""
    noise = generator.standard_normal(mean.shape, np.float32)
    actions = noise * np.exp(log_std)
    actions += mean
    noise *= noise
    noise *= HALF
    noise += log_std
    surprise = np.add.reduce(noise, axis=-1)
    surprise += np.float32(mean.shape[1] * LOG_ROOT)
    return actions, np.negative(surprise, out=surprise)


def _squashed_gaussian(mean: Array, log_std: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Draws (N, C) and their log-probabilities (N,), of means and log deviations (N, C) before tanh."""
    noise = generator.standard_normal(mean.shape, np.float32)
    raw = np.exp(log_std)
    raw *= noise
    raw += mean
    # log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x)) stays finite for large x.
    slope = raw * MINUS_TWO
    np.logaddexp(ZERO, slope, out=slope)
    slope += raw
    slope += slope
    noise *= noise
    noise *= HALF
    noise += log_std
    noise -= slope
    surprise = np.add.reduce(noise, axis=-1)
    surprise += np.float32(mean.shape[1] * (LOG_ROOT + 2 * math.log(2)))
    return np.tanh(raw), np.negative(surprise, out=surprise)
