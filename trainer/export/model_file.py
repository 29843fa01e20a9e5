"""Makes the ONNX model of a policy, checks that it acts as the policy does, and writes it to a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from envs.spec import Array, UserError
from trainer.config.schema import TrainConfig
from trainer.serve.onnx_policy import Model

if TYPE_CHECKING:
    from algorithms.policy import Policy

SUFFIX = ".onnx"
TOLERANCE = 1e-5
"""How much a model's likeliest actions and its recurrent state may differ from the policy's, relative to the largest
feature if that is above 1, because float32 rounds."""


def exported_model(policy: Policy, config: TrainConfig) -> bytes:
    """Returns the ONNX model of a policy on the CPU; if onnxruntime is installed, how it acts is checked.

    Raises UserError if it cannot be exported, or the model does not act as the policy does.
    """
    from algorithms.onnx.build import build_model  # imports torch, which takes seconds

    content: bytes = build_model(policy, channels_last=config.env.channels_last).SerializeToString()
    if find_spec("onnxruntime") is not None:
        _check_acts_alike(Model(content, f"the model of {policy.spec.name!r}"), policy)
    return content


def model_file(behavior: str) -> str:
    """Returns the name of a behavior's file; no two behaviors share one.

    A name that no file system takes is shortened, and a digest tells it from others like it; what Windows takes for a
    device is written as one more escape.
    """
    name = quote(behavior, safe=" +()")
    if name.partition(".")[0].strip().upper() in _DEVICES:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST_NAME:
        whole = re.sub("%.?$", "", name[:_LONGEST_NAME])  # no escape is cut in two
        name = f"{whole}-{blake2b(behavior.encode(), digest_size=8).hexdigest()}"
    return name + SUFFIX


_LONGEST_NAME = 200
"""File systems take 255 bytes, and a file that is being written has a longer name."""
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def _check_acts_alike(model: Model, policy: Policy) -> None:
    """Raises UserError if a model does not act as the policy does, on random decisions."""
    rng = np.random.default_rng(0)
    spec = policy.spec
    for rows in (1, 16):
        observations = [
            rng.standard_normal((rows, *o.shape), np.float32)
            if o.dtype == "float32"
            else rng.integers(0, max(1, round(1 / o.scale)) + 1, (rows, *o.shape)).astype(np.uint8)
            for o in spec.observations
        ]
        mask = rng.random((rows, sum(spec.branches))) < 0.5
        state = rng.uniform(-1, 1, (rows, policy.state_size)).astype(np.float32)
        difference = _difference(model, policy, observations, mask, state)
        if difference:
            raise UserError(
                f"the model of {spec.name!r} does not act as its policy does: of {rows} rows, {difference}. "
                "If the network is your own, its forward may only depend on shapes by way of the tensors"
            )


def _difference(model: Model, policy: Policy, observations: Sequence[Array], mask: Array, state: Array) -> str | None:
    import torch

    from algorithms.networks.distributions import FORBIDDEN

    with torch.inference_mode():
        inputs = policy.prepare([torch.from_numpy(x) for x in observations])
        tolerance = TOLERANCE * max(1.0, float(policy.trunk(policy.encoder(inputs)).abs().max()))
        features, after = policy.features(inputs, torch.from_numpy(state))
        distribution = policy.distribution(features, torch.from_numpy(mask))
    for deterministic in (True, False):
        chosen = model.act(observations, mask, state, deterministic)
        if not np.allclose(chosen.recurrent_state, after.numpy(), 0, tolerance):
            return f"its recurrent state differs by up to {np.abs(chosen.recurrent_state - after.numpy()).max():.2g}"
        if distribution.continuous is not None:
            likeliest = distribution.continuous.mode().clamp(-1, 1).numpy()
            if deterministic and not np.allclose(chosen.continuous, likeliest, 0, tolerance):
                return f"continuous actions differ by up to {np.abs(chosen.continuous - likeliest).max():.2g}"
            if not (np.abs(chosen.continuous) <= 1).all():
                return "drawn continuous actions leave -1 to 1"
        if distribution.discrete is not None:
            index = policy.branches.index(torch.from_numpy(chosen.discrete))
            log_probs = distribution.discrete.log_probs
            behind = log_probs.amax(-1) - log_probs.gather(-1, index[..., None])[..., 0]
            # Of choices that are as good as equally likely either may be taken; a draw may be any that is allowed.
            if not (behind <= (2 * tolerance if deterministic else -FORBIDDEN / 2)).all():
                return "the likeliest choices differ" if deterministic else "draws are forbidden choices"
    return None
