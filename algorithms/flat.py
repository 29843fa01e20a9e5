"""Parameters of one optimiser in one flat vector, and Adam over it in few operations.

Shapes: P parameters in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    """Adam (arXiv 1412.6980) over one flat vector, with gradient clipping by global norm.

    A step whose gradient is not finite leaves parameters and moments as they were. That is decided on the device, so
    nothing waits for the answer; `skipped` tells the count.
    """

    def __init__(self, vector: Tensor, learning_rate: float, max_gradient_norm: float | None) -> None:
        device = vector.device
        self.vector = vector
        self.mean = torch.zeros_like(vector)
        self.square = torch.zeros_like(vector)
        self.steps = torch.zeros((), dtype=torch.float64, device=device)
        self.learning_rate = torch.tensor(learning_rate, dtype=torch.float64, device=device)
        self.attempts = 0
        self._max_gradient_norm = max_gradient_norm
        self._betas = torch.tensor([0.9, 0.999], dtype=torch.float64, device=device)
        self._weights = (1 - self._betas).float()
        self._gradient, self._scratch = torch.empty_like(vector), torch.empty_like(vector)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> Tensor:
        """One step along gradients given in the vector's order; returns whether they were finite, () bool."""
        self.attempts += 1
        # Everything of the vector's size happens in two buffers that stay: fresh memory costs more than the arithmetic.
        gradient, scratch = self._gradient, self._scratch
        torch.cat([part.reshape(-1) for part in gradients], out=gradient)
        norm = gradient.norm()
        # NaN compares false, so this catches both kinds of bad numbers.
        finite: Tensor = norm < torch.inf
        if self._max_gradient_norm is not None:
            gradient.mul_(self._max_gradient_norm / norm.clamp(min=self._max_gradient_norm))
        gradient.masked_fill_(~finite, 0.0)
        # With zero weights the moments stay exactly as they are.
        weights = (1 - self._betas) * finite
        self.mean.lerp_(gradient, weights[0].float())
        self.square.lerp_(gradient.square_(), weights[1].float())
        self.steps += finite
        bias = 1 - self._betas.pow(self.steps.clamp(min=1))
        root = bias[1].sqrt()
        step_size = self.learning_rate * root / bias[0] * finite
        # Both sides of Adam's fraction are multiplied by the root of the second bias: one pass less over the vector.
        denominator = torch.sqrt(self.square, out=gradient).add_(root * EPSILON)
        self.vector.addcdiv_(torch.mul(self.mean, -step_size, out=scratch), denominator)
        return finite

    def skipped(self) -> int:
        """Steps left out because their gradient was not finite. Waits for the device."""
        return self.attempts - int(self.steps.item())

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and step counts, read back by `load_state_dict`."""
        return {
            "mean": self.mean.cpu().clone(),
            "square": self.square.cpu().clone(),
            "steps": self.steps.cpu().clone(),
            "attempts": torch.tensor(self.attempts),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        self.steps.copy_(state["steps"])
        self.attempts = int(state["attempts"])


EPSILON = 1e-8
