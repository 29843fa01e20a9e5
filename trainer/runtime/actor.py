"""Actors: they act with the weights that the learner has published, on the CPU or on a GPU, whichever is faster.

Shapes: N agents, C continuous actions, B discrete branches, R numbers of recurrent state.
"""

from __future__ import annotations

import copy
import time
from typing import Any, Protocol

import numpy as np
import torch

from algorithms.metrics import load_torch_state
from algorithms.numpy_policy import NumpyActor
from algorithms.policy import Acted, Policy
from envs.spec import Array

GPU = torch.device("cuda")
PASSES = 5
"""How many passes are timed: the first is slow on a GPU, and others may be, because instances start meanwhile."""
LEAST_GPU_SECONDS = 200e-6
"""A pass on a GPU takes some 40 launches and 4 waits for results. Where the CPU takes no longer, none is tried: it
would take 300 MB of the card's memory for nothing."""


class Weights(Protocol):
    """Where an actor has its weights from: a `PolicyReader`, or a snapshot."""

    @property
    def version(self) -> int:
        """Of those that were copied last."""

    def refresh(self, flat: Array) -> bool:
        """Copies the weights that are wanted into `flat` unless it holds them already; returns whether it copied."""


class PolicyActor:
    """Acts with the newest published weights of a policy: on the CPU in numpy where it fits, else in torch."""

    def __init__(self, policy: Policy, weights: Weights, seed: int, device: torch.device | None = None) -> None:
        """Moves the policy to `device`, if one is given."""
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
    def on_gpu(self) -> bool:
        """Whether it computes actions on a GPU."""
        return not self._policy.flat.is_cpu

    @property
    def where(self) -> str:
        """A description of how it computes actions."""
        if self._numpy is not None:
            return "numpy on the CPU"
        return "torch on the GPU" if self.on_gpu else "torch on the CPU"

    def refresh(self) -> None:
        """Takes the newest weights."""
        if self._weights.refresh(self._flat) and self._policy.flat is not self._host:
            self._policy.flat.copy_(self._host)

    def act(self, observations: tuple[Array, ...], mask: Array, state: Array) -> Acted:
        """Samples actions (N, C) and (N, B), with their log-probabilities (N,) and the recurrent state after (N, R)."""
        if self._numpy is not None:
            return self._numpy.act(observations, mask, state, self._numpy_generator)
        return self._policy.act(observations, mask, state, self._torch_generator)

    def pass_seconds(self, rows: int) -> float:
        """Returns the seconds of the fastest of `PASSES` passes over `rows` agents."""
        spec = self._policy.spec
        observations = tuple(np.zeros((rows, *o.shape), o.dtype) for o in spec.observations)
        mask, state = np.ones((rows, spec.mask_size), bool), np.zeros((rows, self._policy.state_size), np.float32)
        seconds = []
        for _ in range(PASSES):
            start = time.perf_counter()
            self.act(observations, mask, state)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def state(self) -> dict[str, Any] | list[int]:
        """Returns the random state: numpy's is a dict, torch's a list."""
        if self._numpy is not None:
            return dict(self._numpy_generator.bit_generator.state)
        return self._torch_generator.get_state().tolist()

    def load_state(self, state: dict[str, Any] | list[int]) -> None:
        """Continues to draw from a random state; that of another kind of device, where it acted before, is left."""
        if isinstance(state, dict):
            self._numpy_generator.bit_generator.state = state
        else:
            load_torch_state(self._torch_generator, torch.tensor(state, dtype=torch.uint8))


def quickest_actor(policy: Policy, weights: Weights, seed: int, rows: int, gpu: bool) -> tuple[PolicyActor, str]:
    """Returns the actor that serves `rows` agents in less time, on the CPU or a `gpu`, and a description of it.

    Nothing is measured if there is no GPU, or it must not be used. One that cannot run the policy is not used.
    """
    on_cpu = PolicyActor(policy, weights, seed)
    if not gpu or not torch.cuda.is_available():
        return on_cpu, on_cpu.where
    seconds, failed = {on_cpu: on_cpu.pass_seconds(rows)}, ""
    if seconds[on_cpu] > LEAST_GPU_SECONDS:
        try:
            on_gpu = PolicyActor(copy.deepcopy(policy), weights, seed, GPU)
            seconds[on_gpu] = on_gpu.pass_seconds(rows)
        except RuntimeError as error:  # this torch has no code for so old a card, or its memory is full
            failed = f"; on the GPU it fails: {str(error).strip().splitlines()[0]}"
    chosen = min(seconds, key=seconds.__getitem__)
    figures = " and ".join(f"{1000 * each:.2f} ms in {actor.where}" for actor, each in seconds.items())
    return chosen, f"{chosen.where}, as a pass over {rows} agents takes {figures}{failed}"
