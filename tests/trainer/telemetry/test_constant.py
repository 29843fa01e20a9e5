"""Which observations have never changed, seen in a buffer that goes on being written."""

import numpy as np
import pytest

from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, ObservationSpec
from trainer.telemetry.constant import ConstantObservations

SPEC = BehaviorSpec("b", (ObservationSpec("camera", (4, 4, 3), "uint8"), ObservationSpec("speed", (2,), "float32")), 1)


@pytest.fixture
def rows():
    layout = Layout(SPEC)
    return Rows(layout, bytearray(layout.memory_bytes(64)), 64)


def append(writer, camera, speed):
    agents, none = np.arange(1), np.zeros((1, 0), np.bool_)
    observations = np.full((1, 4, 4, 3), camera, np.uint8), np.array([[1.0, speed]], np.float32)
    acted = np.zeros((1, 1), np.float32), np.zeros((1, 0), np.int32), np.zeros(1, np.float32), 1
    finals = tuple(x[:0] for x in observations)
    flags = np.zeros(1, np.bool_), np.zeros(1, np.bool_)
    writer.append(agents, observations, none, *acted, np.zeros(1, np.float32), *flags, finals, none[:0])


def test_observations_count_as_constant_until_a_row_differs(rows):
    writer, watched = Writer(rows), ConstantObservations(rows)
    assert watched.look() == []  # there are no rows
    for i in range(3):
        append(writer, 7, i)
    assert watched.look() == ["camera"]
    assert watched.look() == ["camera"]  # nothing new
    for _ in range(200):  # the buffer is overwritten more than once
        append(writer, 7, 0)
    assert watched.look() == ["camera"]
    append(writer, 8, 0)
    assert watched.look() == []
    append(writer, 7, 0)
    assert watched.look() == []
