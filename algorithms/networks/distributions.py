"""Distributions of hybrid actions: a Gaussian over the continuous part and a masked categorical for each branch.

Shapes: N rows, C continuous actions, D discrete branches of the spec, A mask entries (all their choices, one branch
after another); B branches as they are chosen (D, or 1 if together), K choices of the largest of these (others padded).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


class Branches(nn.Module):
    """The discrete branches of a spec, padded to one width so that all of them pass in one operation.

    If they have no more than `joint_choices` combinations, these are the choices of one branch.
    """

    padding: Tensor
    positions: Tensor
    combinations: Tensor
    strides: Tensor
    log_sizes: Tensor

    def __init__(self, branches: tuple[int, ...], joint_choices: int) -> None:
        super().__init__()
        self.sizes = chosen_branches(branches, joint_choices)
        self.count, self.width = len(self.sizes), max(self.sizes, default=0)
        self.joint = self.sizes != branches
        real = torch.arange(max(branches, default=0)) < torch.tensor(branches, dtype=torch.int64)[:, None]
        self.register_buffer("padding", ~real, persistent=False)
        self.register_buffer("positions", real.flatten().nonzero()[:, 0], persistent=False)
        self._padded = not bool(real.all())
        self.register_buffer("log_sizes", torch.tensor([self.sizes], dtype=torch.float32).log(), persistent=False)
        # Of each combination its choice in each branch (K, D); one step in a branch is so many combinations (D,).
        places = np.indices(branches).reshape(len(branches), -1).T if self.joint else np.zeros((0, len(branches)))
        strides = np.cumprod((1, *branches[:0:-1]))[::-1] if self.joint else np.ones(len(branches))
        self.register_buffer("combinations", torch.tensor(places, dtype=torch.int64), persistent=False)
        self.register_buffer("strides", torch.tensor(strides.copy(), dtype=torch.int64), persistent=False)

    def index(self, discrete: Tensor) -> Tensor:
        """(N, B) int64, as which the choices (N, D) int64 of a spec's branches are chosen."""
        return (discrete * self.strides).sum(-1, keepdim=True) if self.joint else discrete

    def choices(self, index: Tensor) -> Tensor:
        """(N, D) int64, what was chosen as (N, B)."""
        return self.combinations[index[:, 0]] if self.joint else index

    def forbidden(self, mask: Tensor) -> Tensor | None:
        """(N, B, K) bool, the choices that may not be taken, None if all may; mask (N, A) True = allowed, or (N, 0).

        A branch whose mask allows nothing counts as unmasked: an action has to be taken all the same.
        """
        if mask.shape[1] == 0:
            return self.padding if self._padded and not self.joint else None
        branches, width = self.padding.shape
        allowed = torch.zeros(len(mask), branches * width, dtype=torch.bool, device=mask.device)
        allowed[:, self.positions] = mask
        forbidden = ~allowed.view(-1, branches, width)
        forbidden = torch.where(forbidden.all(-1, keepdim=True), self.padding, forbidden)
        if not self.joint:
            return forbidden
        columns = torch.arange(branches, device=mask.device)
        return forbidden[:, columns, self.combinations].any(-1)[:, None]

    def categorical(self, logits: Tensor, mask: Tensor) -> Categorical:
        """The distribution of logits (N, B * K) under a mask (N, A)."""
        logits = logits.reshape(-1, self.count, self.width)
        forbidden = self.forbidden(mask)
        if forbidden is not None:
            logits = logits.masked_fill(forbidden, FORBIDDEN)
        return Categorical(F.log_softmax(logits, dim=-1))

    def log_choices(self, mask: Tensor) -> Tensor:
        """(N or 1, B): ln of the number of choices allowed, the largest entropy a branch can have."""
        forbidden = self.forbidden(mask) if mask.shape[1] else None
        return self.log_sizes if forbidden is None else (~forbidden).sum(-1).float().log()


def chosen_branches(branches: tuple[int, ...], joint_choices: int) -> tuple[int, ...]:
    """Choices of each branch that is chosen by itself: those of a spec, or one of all their combinations."""
    combinations = math.prod(branches)
    return (combinations,) if len(branches) > 1 and combinations <= joint_choices else branches


class Categorical(NamedTuple):
    """Independent categoricals over the branches."""

    log_probs: Tensor
    """(N, B, K); forbidden choices hold a very large negative number, never infinity, so that products are finite."""

    def sample(self, generator: Generator | None) -> Tensor:
        """(N, B) int64."""
        # The largest of p / E, E exponential, is a draw from p. E can round to 0, and 0 / 0 would win.
        noise = torch.empty_like(self.log_probs).exponential_(generator=generator).clamp_(min=1e-20)
        return (self.log_probs.exp() / noise).argmax(-1)

    def mode(self) -> Tensor:
        """(N, B) int64, the likeliest choices."""
        return self.log_probs.argmax(-1)

    def log_prob(self, discrete: Tensor) -> Tensor:
        """(N,) of choices (N, B) int64, summed over branches."""
        return self.log_probs_of(discrete).sum(-1)

    def log_probs_of(self, discrete: Tensor) -> Tensor:
        """(N, B) of choices (N, B) int64."""
        return self.log_probs.gather(-1, discrete[..., None])[..., 0]

    def entropy(self) -> Tensor:
        """(N, B)."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


class Gaussian(NamedTuple):
    """A diagonal Gaussian; environments clip what they are given, log-probabilities are those of the raw draw."""

    mean: Tensor
    """(N, C)."""
    log_std: Tensor
    """(C,) or (N, C)."""

    def sample(self, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Actions (N, C) and their log-probabilities (N,)."""
        noise = _noise_like(self.mean, generator)
        return self.mean + self.log_std.exp() * noise, _log_density(noise, self.log_std).sum(-1)

    def mode(self) -> Tensor:
        """(N, C)."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """(N,) of actions (N, C), summed over them."""
        return self.log_probs(actions).sum(-1)

    def log_probs(self, actions: Tensor) -> Tensor:
        """(N, C) of actions (N, C), each by itself."""
        return _log_density((actions - self.mean) * (-self.log_std).exp(), self.log_std)

    def entropy(self) -> Tensor:
        """(N,) or (), summed over actions. A deviation counts up to 1: what it adds beyond, environments clip."""
        return (self.log_std.clamp(max=LARGEST_COUNTED) + (LOG_ROOT + 0.5)).sum(-1)

    def entropies(self) -> Tensor:
        """(N, C) or (C,) of each action by itself, whatever environments clip."""
        return self.log_std + (LOG_ROOT + 0.5)


class SquashedGaussian(NamedTuple):
    """A diagonal Gaussian through tanh (arXiv 1801.01290, appendix C): actions stay in (-1, 1)."""

    mean: Tensor
    """(N, C), before tanh."""
    log_std: Tensor
    """(N, C)."""

    def sample(self, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Actions (N, C) and their log-probabilities (N,), both differentiable."""
        return self.actions(_noise_like(self.mean, generator))

    def actions(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of standard normal noise (N, C)."""
        raw = torch.addcmul(self.mean, self.log_std.exp(), noise)
        # ln(1 - tanh(x)^2) = 2 (ln 2 - x - ln(1 + e^(-2 x))) stays finite for large x; beta divides the logarithm.
        slope = torch.sub(raw, F.softplus(raw, beta=-2), alpha=2)
        surprise = torch.addcmul(self.log_std, noise, noise, value=0.5).sub(slope, alpha=2).sum(-1)
        return raw.tanh(), -noise.shape[-1] * (LOG_ROOT + 2 * math.log(2)) - surprise

    def mode(self) -> Tensor:
        """(N, C)."""
        return self.mean.tanh()


class Deterministic(NamedTuple):
    """Actions in [-1, 1] without a distribution of their own, and noise that explores around them."""

    mean: Tensor
    """(N, C), before tanh."""
    noise: Tensor
    """(C,) standard deviation of the noise."""

    def sample(self, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Returns actions (N, C) with noise, and zeros (N,) in place of their log-probabilities."""
        actions = self.mode() + self.noise * _noise_like(self.mean, generator)
        return actions.clamp(-1, 1), torch.zeros_like(self.mean[:, 0])

    def mode(self) -> Tensor:
        """Returns actions (N, C) without noise."""
        return self.mean.tanh()


FORBIDDEN = -1e9
"""Logit of a forbidden choice: its probability is exactly 0 in float32, and 0 times it is not NaN."""
LARGEST_COUNTED = 0.0
"""Largest log deviation that counts in the entropy of an unbounded Gaussian. The part of its entropy that lies within
[-1, 1], the integral of -p ln p, is largest at a deviation of 0.99 around 0 (1.08 around 0.5), and falls beyond."""
LOG_ROOT = 0.5 * math.log(2 * math.pi)


def _noise_like(mean: Tensor, generator: Generator | None) -> Tensor:
    return torch.empty_like(mean).normal_(generator=generator)


def _log_density(noise: Tensor, log_std: Tensor) -> Tensor:
    return -0.5 * noise * noise - log_std - LOG_ROOT
