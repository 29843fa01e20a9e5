"""What a policy or a critic remembers from step to step: an LSTM or a GRU over sequences of steps.

Shapes: B sequences of L steps each, N = B * L steps, one sequence after another, F features, R numbers of the recurrent
state.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from algorithms.settings import Cell, MemorySettings

# On CUDA, a layer whose weights lie in a vector with others has them copied together in every call, and warns of it.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")


def make_recurrent_layer(inputs: int, settings: MemorySettings) -> RecurrentLayer | None:
    """What the settings ask for, over features of `inputs` numbers."""
    return None if settings.cell is Cell["none"] else RecurrentLayer(inputs, settings)


class RecurrentLayer(nn.Module):
    """One recurrent layer. A sequence lies in one episode, and begins with zeros where that does."""

    def __init__(self, inputs: int, settings: MemorySettings) -> None:
        super().__init__()
        self.features = settings.size
        """F: what comes out."""
        cell = nn.LSTM if settings.cell is Cell["lstm"] else nn.GRU
        self.layer: nn.LSTM | nn.GRU = cell(inputs, settings.size, batch_first=True)
        for name, parameter in self.layer.named_parameters():
            if name.startswith("weight"):
                for gate in torch.split(parameter.detach(), settings.size):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(parameter)
        # The second gate, which keeps what was, is open at first: then what was seen long ago still matters.
        bias = self.layer.get_parameter("bias_ih_l0").detach()
        nn.init.ones_(bias[settings.size : 2 * settings.size])

    def forward(self, features: Tensor, state: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (N, F) of features (N, ...), and the state (B, R) after each sequence, from that before it.

        Sequences end after `lengths` (B,) int64 steps, on the CPU; behind these their outputs are 0. None = all steps.
        """
        padded = features.view(len(state), -1, features.shape[-1])
        sequences: Tensor | PackedSequence = padded
        if lengths is not None:
            sequences = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        if isinstance(self.layer, nn.LSTM):
            output, cell = torch.split(state, self.features, dim=-1)
            outputs, (output, cell) = self.layer(sequences, (output[None].contiguous(), cell[None].contiguous()))
            after = torch.cat([output[0], cell[0]], dim=-1)
        else:
            outputs, output = self.layer(sequences, state[None])
            after = output[0]
        if lengths is not None:
            outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=len(features) // len(state))
        return outputs.reshape(len(features), -1), after
