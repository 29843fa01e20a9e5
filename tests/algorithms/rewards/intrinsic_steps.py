"""Random steps of agents, for what learns novelty from them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from algorithms.imitation.demonstrations import Steps
from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec

VECTOR = ObservationSpec("vector", (3,), "float32")
IMAGE = ObservationSpec("image", (20, 24, 3), "uint8", 1 / 255)
HYBRID = BehaviorSpec("hybrid", (VECTOR, ObservationSpec("bytes", (2,), "uint8")), 2, (3, 2), masked=True)
CONTINUOUS = BehaviorSpec("continuous", (VECTOR,), 2)
DISCRETE = BehaviorSpec("discrete", (VECTOR,), 0, (3, 2))
PICTURES = BehaviorSpec("pictures", (VECTOR, IMAGE), 0, (3,))
SPECS = (HYBRID, CONTINUOUS, DISCRETE, PICTURES)


def policy_of(spec: BehaviorSpec, joint_choices: int = 0) -> Policy:
    return Policy(spec, NetworkSettings([8], joint_choices=joint_choices), "sac")


def steps_of(spec: BehaviorSpec, count: int, seed: int = 0, shift: float = 0.0, ends: float = 0.0) -> Steps:
    """A share `ends` of the steps terminates; float32 observations lie around `shift`."""
    generator = Generator().manual_seed(seed)

    def observe() -> tuple[Tensor, ...]:
        return tuple(
            torch.randn(count, *o.shape, generator=generator) + shift
            if o.dtype == "float32"
            else torch.randint(256, (count, *o.shape), generator=generator).to(torch.uint8)
            for o in spec.observations
        )

    discrete = [torch.randint(n, (count,), generator=generator) for n in spec.branches]
    terminated = torch.rand(count, generator=generator) < ends
    following = tuple(x * ~terminated.view(-1, *[1] * (x.dim() - 1)) for x in observe())
    return Steps(
        observe(),
        torch.ones(count, spec.mask_size if spec.masked else 0, dtype=torch.bool),
        torch.randn(count, spec.continuous_size, generator=generator),
        torch.stack(discrete, dim=1) if discrete else torch.zeros(count, 0, dtype=torch.int64),
        terminated,
        following,
    )
