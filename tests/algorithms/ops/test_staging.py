import numpy as np
import torch

from algorithms.ops.staging import Part, Staging

CPU = torch.device("cpu")


def test_arrays_arrive_whole_or_at_their_places_and_as_what_they_become():
    numbers = np.arange(12, dtype=np.float32).reshape(4, 3)
    parts = [
        Part(numbers),
        Part(numbers, np.array([2, 0, 2])),
        Part(np.zeros((5, 0), np.bool_)),
        Part(np.array([True, False]), dtype=np.float32),
        Part(np.arange(3, dtype=np.int32), dtype=np.int64),
        Part(np.full((2, 2), 7, np.uint8)),
    ]
    whole, taken, empty, weights, choices, pixels = Staging(CPU).move(parts)
    np.testing.assert_array_equal(whole, numbers)
    np.testing.assert_array_equal(taken, numbers[[2, 0, 2]])
    assert (empty.shape, empty.dtype) == ((5, 0), torch.bool)
    assert (weights.tolist(), weights.dtype) == ([1.0, 0.0], torch.float32)
    assert (choices.tolist(), choices.dtype) == ([0, 1, 2], torch.int64)
    assert (pixels.dtype, pixels.sum().item()) == (torch.uint8, 28)


def test_tensors_stay_where_they_are_as_long_as_shapes_do():
    staging = Staging(CPU)
    (first,) = staging.move([Part(np.zeros(3))])
    (second,) = staging.move([Part(np.ones(3))])
    assert first is second
    assert second.tolist() == [1, 1, 1]
    (third,) = staging.move([Part(np.zeros(4))])
    assert third is not first
    assert first.tolist() == [1, 1, 1]
