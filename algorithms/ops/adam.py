"""Parameters of one optimiser in one flat vector, and Adam over it in few operations.

Shapes: P parameters in all, of which each of R networks has a range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import Tensor


def place(tensors: Iterable[Tensor], vector: Tensor) -> None:
    """Moves tensors into `vector` (P,), one after another: each becomes a view of it and keeps its values."""
    start = 0
    for tensor in tensors:
        end = start + tensor.numel()
        view = vector[start:end].view(tensor.shape)
        view.copy_(tensor.detach())
        tensor.data = view
        start = end
    if start != vector.numel():
        raise ValueError(f"{start} numbers placed in a vector of {vector.numel()}")


class FlatAdam:
    """Adam (arXiv 1412.6980) over one flat vector, with gradient clipping by the norm of each network's part.

    A step whose gradient is not finite leaves parameters and moments as they were. That is decided on the device, so
    nothing waits for the answer; `skipped` returns the count.
    """

    def __init__(
        self, vector: Tensor, learning_rate: float, max_gradient_norm: float | None, sizes: Sequence[int] = ()
    ) -> None:
        """`sizes` (R,) are the networks' numbers of parameters, in the vector's order; none = it is all of one."""
        device = vector.device
        self.vector = vector
        self.mean = torch.zeros_like(vector)
        self.square = torch.zeros_like(vector)
        self.steps, self.skips = torch.zeros((), device=device), torch.zeros((), device=device)
        self.tensors = {"mean": self.mean, "square": self.square, "steps": self.steps, "skips": self.skips}
        """All that a step depends on beside its gradient and the learning rate, by name."""
        self.learning_rate = torch.tensor(learning_rate, device=device)
        self._max_gradient_norm = max_gradient_norm
        self._apply = _fused_step if _can_fuse(device) else _plain_step
        self._gradients: list[_Gradient] = []
        self.add_up: Callable[[Tensor], None] | None = None
        """What adds up the gradients of several learners, in place; see `algorithms.ranks`."""
        self._sizes = sizes or [vector.numel()]
        self._skip = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, *gradients: Sequence[Tensor], beside: Tensor | None = None) -> Tensor:
        """One step along gradients given in the vector's order; returns whether they were finite, () bool.

        Where there are several, of losses that share parameters, each is clipped as a whole before they are added.
        Where several learners make the step, the number `beside` () is added up with the gradients, in place.
        """
        if not self._gradients:
            sizes = self._sizes if len(gradients) == 1 else [self.vector.numel()]
            size = self.vector.numel()
            self._memory = self.vector.new_zeros(len(gradients) * size + 1)
            vectors = self._memory[:-1].view(len(gradients), size)
            self._gradients = [_Gradient(vector, given, sizes) for vector, given in zip(vectors, gradients)]
        for each, given in zip(self._gradients, gradients):
            each.fill(given)
        if self.add_up is not None:
            if beside is not None:
                self._memory[-1] = beside
            self.add_up(self._memory)
            if beside is not None:
                beside.copy_(self._memory[-1])
        ranges = [part for each in self._gradients for part in each.ranges]
        norms = torch.stack(torch._foreach_norm(ranges))
        # NaN compares false, so this catches both kinds of bad numbers.
        finite: Tensor = norms.sum() < torch.inf
        torch.logical_not(finite, out=self._skip)
        self.steps.add_(finite)
        self.skips.add_(self._skip)
        if self._max_gradient_norm is not None:
            factors = self._max_gradient_norm / norms.clamp(min=self._max_gradient_norm)
            for part, factor in zip(ranges, factors.unbind()):
                part.mul_(factor)
        gradient, *others = (each.vector for each in self._gradients)
        for other in others:
            gradient.add_(other)
        self._apply(self.vector, gradient, self.mean, self.square, self.steps, self.learning_rate, self._skip)
        return finite

    def skipped(self) -> int:
        """Steps left out because their gradient was not finite. Waits for the device."""
        return int(self.skips.item())

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and step counts, read back by `load_state_dict`."""
        return {name: tensor.cpu().clone() for name, tensor in self.tensors.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        if "skips" not in state:  # an earlier version saved the steps tried instead
            state = {**state, "skips": state["attempts"] - state["steps"]}
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])


class _Gradient:
    """The gradient of one loss, in memory that is filled at each step."""

    def __init__(self, vector: Tensor, parts: Sequence[Tensor], sizes: Sequence[int]) -> None:
        self.vector = vector
        """(P,)."""
        self.ranges = list(torch.split(self.vector, list(sizes)))
        """That of each network."""
        flat = torch.split(self.vector, [part.numel() for part in parts])
        self._parts = [view.view(part.shape) for view, part in zip(flat, parts)]

    def fill(self, parts: Sequence[Tensor]) -> None:
        """Takes over a gradient."""
        self.vector.zero_()
        torch._foreach_add_(self._parts, list(parts))


BETAS = (0.9, 0.999)
EPSILON = 1e-8
_CONSTANTS = {"beta1": BETAS[0], "beta2": BETAS[1], "eps": EPSILON, "weight_decay": 0.0, "grad_scale": None}
_CONSTANTS |= {"amsgrad": False, "maximize": False}


def _fused_step(
    vector: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, steps: Tensor, learning_rate: Tensor, skip: Tensor
) -> None:
    """One step by torch's own kernel, which reads and writes each number once: a quarter of the plain step's time."""
    torch.ops.aten._fused_adam_.tensor_lr(
        [vector], [gradient], [mean], [square], [], [steps], lr=learning_rate, found_inf=skip, **_CONSTANTS
    )


def _plain_step(
    vector: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, steps: Tensor, learning_rate: Tensor, skip: Tensor
) -> None:
    """The same in few operations. The gradient's memory is used up: fresh memory costs more than the arithmetic."""
    done = 1 - skip
    gradient.nan_to_num_(0.0, 0.0, 0.0)
    # With zero weights the moments stay exactly as they are.
    mean.lerp_(gradient, done * (1 - BETAS[0]))
    square.lerp_(gradient.square_(), done * (1 - BETAS[1]))
    taken = steps.double().clamp(min=1)
    # Not `BETAS[0] ** taken`, which early versions of torch 2 copy from the CPU: no graph can be captured then.
    first, second = (1 - torch.pow(beta, taken) for beta in BETAS)
    root = second.sqrt()
    step_size = done * learning_rate * root / first
    # Both sides of Adam's fraction are multiplied by the root of the second bias: one pass less over the vector.
    denominator = torch.sqrt(square, out=gradient).add_(root * EPSILON)
    vector.addcdiv_(mean * -step_size, denominator)


@cache
def _can_fuse(device: torch.device) -> bool:
    """Whether this torch has that kernel for the device, with a learning rate that graphs see change (not in 2.0)."""
    vectors = torch.zeros(4, 1, device=device)
    numbers = torch.zeros(3, device=device)
    try:
        _fused_step(*vectors, *numbers)
    except (AttributeError, RuntimeError):
        return False
    return True
