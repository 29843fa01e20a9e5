"""The actor of an ML-Agents checkpoint as weights of a policy of ours.

Theirs sees observations one after another as they come, ours those first that are normalised, and images last. Their
continuous actions are clipped to -3 to 3 and divided by 3, or squashed by SAC's tanh.

Shapes: F features, C continuous actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.networks.encoders import FullyConnected, ImageEncoder, Match3CNN, NatureCNN, SimpleCNN
from algorithms.networks.inputs import Encoder
from algorithms.networks.mlp import MLP, GoalMLP
from algorithms.policy import Policy
from algorithms.settings import Activation
from envs.spec import Array

MODULE = "Policy"
"""What their checkpoints call the actor."""
_ENCODER = "network_body.observation_encoder.processors"
_BODY = "network_body._body_endoder.seq_layers"
_CONTINUOUS, _DISCRETE = "action_model._continuous_distribution", "action_model._discrete_distribution.branches"


class Part(NamedTuple):
    """One tensor of a policy, and what it becomes."""

    name: str
    ours: Tensor
    theirs: Array | None
    """None = their actor has none that could be it."""


def parts(policy: Policy, theirs: Mapping[str, Array]) -> Iterator[Part]:
    """Yields all tensors of a policy, with those of an actor in their places."""
    silu = policy.network.activation is Activation["silu"]
    columns = _columns(policy)
    if isinstance(policy.trunk, GoalMLP):  # made otherwise: there a goal's weights lie the other way round
        yield from (Part(f"trunk.{name}", parameter, None) for name, parameter in policy.trunk.named_parameters())
    for i, layer in enumerate(policy.trunk.layers if isinstance(policy.trunk, MLP) else ()):
        for kind in ("weight", "bias"):
            array = theirs.get(f"{_BODY}.{2 * i}.{kind}") if silu else None
            if i == 0 and kind == "weight" and array is not None:
                array = None if array.ndim != 2 or array.shape[1] != len(columns) else array[:, columns]
            yield Part(f"trunk.{i}.{kind}", layer.get_parameter(kind), array)
    yield from _images(policy, theirs)
    if policy.recurrent_layer is not None:
        for name, parameter in policy.recurrent_layer.layer.named_parameters():
            yield Part(f"recurrent.{name}", parameter, theirs.get(f"network_body.lstm.lstm.{name}"))
    yield from _actions(policy, theirs)


def normalizer_state(policy: Policy, theirs: Mapping[str, Array]) -> Tensor | None:
    """Returns the state of our normaliser from theirs; None if they have no such statistics."""
    steps, means, squares = 0.0, [], []
    for i in policy.vector_order:
        if not policy.normalized[i]:
            continue
        mean = theirs.get(f"{_ENCODER}.{i}.normalizer.running_mean")
        variance = theirs.get(f"{_ENCODER}.{i}.normalizer.running_variance")
        count = theirs.get(f"{_ENCODER}.{i}.normalizer.normalization_steps")
        if mean is None or variance is None or count is None:
            return None
        if mean.shape != variance.shape or mean.size != math.prod(policy.spec.observations[i].shape) or count.size != 1:
            return None
        steps = float(count.reshape(()))
        means.append(mean.ravel())
        squares.append(variance.ravel())
    if not means:
        return None
    entities = np.zeros(sum(1 + 2 * size for size in policy.normalized_sizes[1:]))  # which are not normalised there
    return torch.from_numpy(np.concatenate([[steps], *means, *squares, entities]).astype(np.float64))


def _columns(policy: Policy) -> Array:
    """For each input of our first layer, that of theirs: both are what the encoders make of the observations."""
    encoder = policy.encoder
    images = iter(encoder.images if isinstance(encoder, Encoder) else ())
    sizes = [
        next(images).features if image else math.prod(observation.shape)
        for observation, image in zip(policy.spec.observations, policy.images)
    ]
    starts = np.cumsum([0, *sizes])
    order = [i for i in policy.vector_order if not policy.images[i]] + [
        i for i, each in enumerate(policy.images) if each
    ]
    return np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order] or [np.zeros(0, np.int64)])


_LAYERS: dict[type[nn.Module], dict[int, str]] = {
    SimpleCNN: {0: "conv_layers.0", 2: "conv_layers.2", 5: "dense.0"},
    NatureCNN: {0: "conv_layers.0", 2: "conv_layers.2", 4: "conv_layers.4", 7: "dense.0"},
    Match3CNN: {0: "conv_layers.0", 2: "conv_layers.2", 5: "dense.0"},
    FullyConnected: {1: "dense.0"},
}
"""Of each encoder, the places of its layers and their names there. The ResNets are not alike."""


def _images(policy: Policy, theirs: Mapping[str, Array]) -> Iterator[Part]:
    if not isinstance(policy.encoder, Encoder):
        for name, parameter in policy.encoder.named_parameters():
            yield Part(f"encoder.{name}", parameter, None)
        return
    if policy.encoder.attention is not None:
        for name, parameter in policy.encoder.attention.named_parameters():
            yield Part(f"attention.{name}", parameter, None)
    numbers = [i for i, image in enumerate(policy.images) if image]
    for i, each in zip(numbers, cast(Sequence[ImageEncoder], policy.encoder.images)):
        places = _LAYERS.get(type(each.network), {})
        for name, parameter in each.network.named_parameters():
            place, _, kind = name.partition(".")
            theirs_name = places.get(int(place)) if place.isdigit() else None
            array = None if theirs_name is None else theirs.get(f"{_ENCODER}.{i}.{theirs_name}.{kind}")
            yield Part(f"encoder.{i}.{name}", parameter, array)


def _actions(policy: Policy, theirs: Mapping[str, Array]) -> Iterator[Part]:
    size, head = policy.spec.continuous_size, policy.head
    squashed = f"{_CONTINUOUS}.log_sigma.weight" in theirs
    for kind in ("weight", "bias"):
        parameter = head.get_parameter(kind)
        if size:
            mean = theirs.get(f"{_CONTINUOUS}.mu.{kind}") if squashed == (policy.kind == "sac") else None
            if mean is not None and not squashed:
                mean = mean / (3 * policy.network.action_scale)
            yield Part(f"head.mean.{kind}", parameter[:size], mean)
        if policy.kind == "sac" and size:
            yield Part(
                f"head.deviation.{kind}", parameter[size : 2 * size], theirs.get(f"{_CONTINUOUS}.log_sigma.{kind}")
            )
        if policy.spec.branches:
            yield from _choices(policy, parameter, theirs, kind)
    if policy.log_std is not None:
        deviation = theirs.get(f"{_CONTINUOUS}.log_sigma")
        theirs_log = None if deviation is None or deviation.size != size else deviation.reshape(size) - math.log(3)
        yield Part("log_std", policy.log_std, None if squashed else theirs_log)


def _choices(policy: Policy, parameter: Tensor, theirs: Mapping[str, Array], kind: str) -> Iterator[Part]:
    branches = policy.branches
    start = len(parameter) - branches.count * branches.width
    found = [theirs.get(f"{_DISCRETE}.{i}.{kind}") for i in range(len(policy.spec.branches))]
    if not branches.joint:
        for i, (size, array) in enumerate(zip(branches.sizes, found)):
            first = start + i * branches.width
            yield Part(f"head.branch_{i}.{kind}", parameter[first : first + size], array)
        return
    # Chances of combinations are products of those of their choices: logits add up.
    whole = [array for array in found if array is not None]
    summed = None
    if len(whole) == len(found) and [len(array) for array in whole] == list(policy.spec.branches):
        combinations = branches.combinations.cpu().numpy()
        summed = sum(array[combinations[:, i]] for i, array in enumerate(whole))
    yield Part(f"head.combinations.{kind}", parameter[start:], summed if isinstance(summed, np.ndarray) else None)
