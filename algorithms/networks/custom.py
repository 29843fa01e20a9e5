"""The body of a network, prepared inputs to features: encoder and hidden layers, or a user's own (docs/extending.md).

Shapes: N rows, F features.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from algorithms.networks.encoders import is_image
from algorithms.networks.mlp import MLP, Encoder, vector_size
from algorithms.settings import NetworkSettings
from envs.imports import imported
from envs.spec import BehaviorSpec, UserError


def make_body(spec: BehaviorSpec, settings: NetworkSettings) -> tuple[Encoder | CustomNetwork, MLP]:
    """Encoder and hidden layers, one after another; a user's own network is followed by no layer."""
    encoder = make_encoder(spec, settings)
    return encoder, MLP(encoder.features, settings.hidden if settings.custom is None else [])


def make_encoder(spec: BehaviorSpec, settings: NetworkSettings) -> Encoder | CustomNetwork:
    """What joins prepared inputs into features."""
    return Encoder(spec, settings) if settings.custom is None else CustomNetwork(spec, settings)


def network_class(path: str, key: str) -> type[nn.Module]:
    """The class at an import path, which `key` of the configuration names.

    Raises:
        UserError: the path does not resolve, or what it names is no network that can be made of (spec, settings).
    """
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
        features = getattr(self.network, "features", None)
        if type(features) is not int or features < 1:
            raise UserError(f"{about} has features={features!r}: it must say how many it returns, as an int above 0")
        self.features: int = features
        for rows in (1, 3):
            _try(self.network, _zeros(spec, settings, rows), rows, features, about)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features (N, F)."""
        features: Tensor = self.network(inputs)
        return features


def _try(network: nn.Module, inputs: Sequence[Tensor], rows: int, features: int, about: str) -> None:
    """Refuses a network that would only fail later."""
    try:
        outputs = network(inputs)
    except Exception as error:  # the user's code
        shapes = [tuple(x.shape) for x in inputs]
        raise UserError(f"{about} fails on inputs of shapes {shapes} ({words_of(error)})") from error
    shape = getattr(outputs, "shape", None)
    if shape != (rows, features) or outputs.dtype != torch.float32:
        seen = type(outputs).__name__ if shape is None else f"{outputs.dtype} of shape {tuple(shape)}"
        raise UserError(f"{about} returns {seen} for {rows} rows; it must be torch.float32 of shape {rows, features}")
    if buffers := [name for name, _ in network.named_buffers()]:
        raise UserError(
            f"{about} has the buffer {buffers[0]!r}, and only parameters reach the actors: "
            "do without, also without batch normalisation (layer normalisation has none)"
        )
    named = dict(network.named_parameters())
    idle = [name for name, parameter in named.items() if not parameter.requires_grad or not outputs.requires_grad]
    if named and not idle:
        gradients = torch.autograd.grad(outputs.sum(), list(named.values()), allow_unused=True)
        idle = [name for name, gradient in zip(named, gradients) if gradient is None]
    if idle:
        raise UserError(
            f"{about} has the parameter {idle[0]!r}, which is frozen or has no part in the features: leave it out"
        )


def words_of(error: Exception) -> str:
    """What a user's code raised, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _zeros(spec: BehaviorSpec, settings: NetworkSettings, rows: int) -> tuple[Tensor, ...]:
    """Prepared inputs, as `Policy.prepare` makes them."""
    images = [o for o in spec.observations if is_image(o, settings.encoder)]
    vector = torch.zeros(rows, vector_size(spec, settings))
    return vector, *(torch.zeros(rows, *o.shape, dtype=getattr(torch, o.dtype)) for o in images)
