"""Networks by import path: one that works, and some that each lack something."""

import math

import torch
from torch import nn

NUMBER = 3


class Trunk(nn.Module):
    """Sees the vector and the mean of each image."""

    def __init__(self, spec, settings):
        super().__init__()
        images = [o for o in spec.observations if len(o.shape) == 3]
        size = sum(math.prod(o.shape) for o in spec.observations if len(o.shape) != 3) + len(images)
        self.features = settings.hidden[0]
        self.layer = nn.Linear(size, self.features)

    def forward(self, inputs):
        vector, *images = inputs
        return torch.tanh(self.layer(torch.cat([vector, *(x.float().mean((1, 2, 3))[:, None] for x in images)], -1)))


class TakesOne(nn.Module):
    def __init__(self, spec):
        super().__init__()


class Fails(nn.Module):
    def __init__(self, spec, settings):
        raise KeyError("nothing there")


class NoFeatures(nn.Module):
    def __init__(self, spec, settings):
        super().__init__()


class FailsForward(Trunk):
    def forward(self, inputs):
        return self.layer(inputs[0][:, 1:])


class Squeezes(Trunk):
    def forward(self, inputs):
        return super().forward(inputs).squeeze()


class Doubles(Trunk):
    def forward(self, inputs):
        return super().forward(inputs).double()


class NoTensor(Trunk):
    def forward(self, inputs):
        return [super().forward(inputs)]


class Buffers(Trunk):
    def __init__(self, spec, settings):
        super().__init__(spec, settings)
        self.norm = nn.BatchNorm1d(self.features)


class Idle(Trunk):
    def __init__(self, spec, settings):
        super().__init__(spec, settings)
        self.extra = nn.Linear(2, 2)


class Frozen(Trunk):
    def __init__(self, spec, settings):
        super().__init__(spec, settings)
        self.layer.weight.requires_grad_(False)


class Detached(Trunk):
    def forward(self, inputs):
        return super().forward(inputs).detach()


class NoParameters(nn.Module):
    """Learns nothing by itself."""

    def __init__(self, spec, settings):
        super().__init__()
        self.features = math.prod(spec.observations[0].shape)

    def forward(self, inputs):
        return inputs[0]


class Baked(Trunk):
    """Depends on its inputs in a way that a traced graph does not hold."""

    def forward(self, inputs):
        return super().forward(inputs) * (2.0 if float(inputs[0].sum()) > 0 else 1.0)


class Exotic(Trunk):
    """Has an operator that ONNX lacks."""

    def forward(self, inputs):
        return torch.special.i0e(super().forward(inputs))
