"""Actors of a run: they act with what the learner has published, on the CPU or on a GPU, whichever is faster."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch

from algorithms.numpy_policy import NumpyActor
from algorithms.policy import Acted, Policy
from envs.spec import Array
from trainer.runtime.policy_store import PolicyReader

GPU = torch.device("cuda")
PASSES = 5
"""That are timed: the first is slow on a GPU, and others may be, as instances start meanwhile."""
LEAST_GPU_SECONDS = 200e-6
"""A pass on a GPU is some 40 launches and 4 waits for results, so it is not tried where the CPU takes no longer: that
would take 300 MB of an old card's memory for nothing."""


class PolicyActor:
    """Acts with the newest published weights of a policy: on the CPU in numpy where it fits, else in torch."""

    def __init__(self, policy: Policy, weights: PolicyReader, seed: int, device: torch.device | None = None) -> None:
        """Acts on `device`, to which it moves the policy, if one is given."""
        self._policy, self._weights = policy, weights
        self._host = policy.flat
        self._flat: Array = self._host.detach().numpy()
        if device is not None:
            policy.move_to(torch.empty_like(self._host, device=device))
        self._numpy = NumpyActor(policy) if device is None and NumpyActor.fits(policy) else None
        self._numpy_generator = np.random.default_rng(seed)
        self._torch_generator = torch.Generator(policy.flat.device).manual_seed(seed)

    @property
    def version(self) -> int:
        """Version of the weights it acts with."""
        return self._weights.version

    @property
    def where(self) -> str:
        """Words for what it acts with."""
        if self._numpy is not None:
            return "numpy on the CPU"
        return "torch on the CPU" if self._policy.flat.is_cpu else "torch on the GPU"

    def refresh(self) -> None:
        """Takes the newest weights."""
        if self._weights.refresh(self._flat) and self._policy.flat is not self._host:
            self._policy.flat.copy_(self._host)

    def act(self, observations: tuple[Array, ...], mask: Array, memory: Array) -> Acted:
        """Sampled actions, their log-probabilities, and the memory after."""
        if self._numpy is not None:
            return self._numpy.act(observations, mask, memory, self._numpy_generator)
        return self._policy.act(observations, mask, memory, self._torch_generator)

    def pass_seconds(self, rows: int) -> float:
        """Of one pass over `rows` agents, the quickest of some."""
        spec = self._policy.spec
        observations = tuple(np.zeros((rows, *o.shape), o.dtype) for o in spec.observations)
        mask, memory = np.ones((rows, spec.mask_size), bool), np.zeros((rows, self._policy.memory_size), np.float32)
        taken = []
        for _ in range(PASSES):
            start = time.perf_counter()
            self.act(observations, mask, memory)
            taken.append(time.perf_counter() - start)
        return min(taken)

    def state(self) -> dict[str, Any] | list[int]:
        """The random state: numpy's is a dict, torch's a list."""
        if self._numpy is not None:
            return dict(self._numpy_generator.bit_generator.state)
        return self._torch_generator.get_state().tolist()

    def load_state(self, state: dict[str, Any] | list[int]) -> None:
        """Goes on drawing from there."""
        if isinstance(state, dict):
            self._numpy_generator.bit_generator.state = state
        else:
            self._torch_generator.set_state(torch.tensor(state, dtype=torch.uint8))


def quickest_actor(policy: Policy, weights: PolicyReader, seed: int, rows: int, gpu: bool) -> tuple[PolicyActor, str]:
    """The actor that serves `rows` agents in less time, on the CPU or on a `gpu`; and words for what it acts with.

    Nothing is measured if there is none, or it is not to be used. One that cannot act for the policy is left alone.
    """
    ours = PolicyActor(policy, weights, seed)
    if not gpu or not torch.cuda.is_available():
        return ours, ours.where
    seconds, failed = {ours: ours.pass_seconds(rows)}, ""
    if seconds[ours] > LEAST_GPU_SECONDS:
        try:
            other = PolicyActor(copy.deepcopy(policy), weights, seed, GPU)
            seconds[other] = other.pass_seconds(rows)
        except RuntimeError as error:  # this torch has no code for so old a card, or its memory is full
            failed = f"; on the GPU it fails: {str(error).strip().splitlines()[0]}"
    chosen = min(seconds, key=seconds.__getitem__)
    figures = " and ".join(f"{1000 * taken:.2f} ms in {actor.where}" for actor, taken in seconds.items())
    return chosen, f"{chosen.where}, as a pass over {rows} agents takes {figures}{failed}"
