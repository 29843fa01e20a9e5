"""The body of a network, prepared inputs to features: encoder and hidden layers, or a user's own (docs/extending.md).

Shapes: N rows, F features.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithms.metrics import words_of
from algorithms.networks.checks import check_module
from algorithms.networks.encoders import is_image
from algorithms.networks.inputs import Encoder, vector_size
from algorithms.networks.mlp import MLP, GoalMLP
from algorithms.settings import Goal, NetworkSettings
from envs.imports import imported
from envs.spec import BehaviorSpec, UserError


def make_body(spec: BehaviorSpec, settings: NetworkSettings) -> tuple[Encoder | CustomNetwork, MLP | GoalMLP]:
    """Encoder and hidden layers, one after another; a user's own network is followed by no layer."""
    encoder = make_encoder(spec, settings)
    if isinstance(encoder, CustomNetwork):
        return encoder, MLP(encoder.features, [])
    if encoder.goal and settings.goal is Goal["hyper"] and settings.hidden:
        return encoder, GoalMLP(encoder.features, settings.hidden, encoder.goal, settings.activation)
    return encoder, MLP(encoder.features, settings.hidden, settings.activation)


def make_encoder(spec: BehaviorSpec, settings: NetworkSettings) -> Encoder | CustomNetwork:
    """What joins prepared inputs into features."""
    return Encoder(spec, settings) if settings.custom is None else CustomNetwork(spec, settings)


def network_class(path: str, key: str) -> type[nn.Module]:
    """Returns the network's class at the path that `key` gives; UserError unless it is made of (spec, settings)."""
    found = imported(path, key)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{key}: {path} must be a subclass of torch.nn.Module")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {path} cannot be called with (spec, settings): {error}") from error
    return found


class CustomNetwork(nn.Module):
    """Features (N, F) of prepared inputs, by the network that `settings.custom` names.

    Raises UserError if that cannot be made, or does not do what it has to.
    """

    def __init__(self, spec: BehaviorSpec, settings: NetworkSettings) -> None:
        super().__init__()
        about = f"network.custom: {settings.custom}"
        kind = network_class(str(settings.custom), "network.custom")
        try:
            self.network = kind(spec, settings)
        except Exception as error:  # the user's code
            raise UserError(f"{about} cannot be made for behavior {spec.name!r} ({words_of(error)})") from error
        self.features = check_module(self.network, lambda rows: _zeros(spec, settings, rows), about)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features (N, F)."""
        features: Tensor = self.network(inputs)
        return features


def _zeros(spec: BehaviorSpec, settings: NetworkSettings, rows: int) -> tuple[Tensor, ...]:
    """Prepared inputs, as `Policy.prepare` makes them."""
    images = [o for o in spec.observations if is_image(o, settings)]
    sets = [o.shape for o in spec.observations if o.entities]
    vector = torch.zeros(rows, vector_size(spec, settings))
    return (
        vector,
        *(torch.zeros(rows, *o.shape, dtype=getattr(torch, o.dtype)) for o in images),
        *(torch.zeros(rows, most, size + 1) for most, size in sets),
    )
