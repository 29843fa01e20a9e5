from __future__ import annotations

import threading

import numpy as np

from trainer.runtime.policy_store import PolicyReader, PolicyWriter, weights_bytes


def test_a_reader_never_sees_a_vector_that_is_half_of_one_version_and_half_of_another() -> None:
    size = 100_000
    memory = memoryview(bytearray(weights_bytes(size)))
    writer, reader = PolicyWriter(memory, size), PolicyReader(memory, size)

    def publish() -> None:
        for version in range(1, 2001):
            writer.publish(np.full(size, version, np.float32), version)

    flat = np.zeros(size, np.float32)
    assert not reader.refresh(flat)
    thread = threading.Thread(target=publish)
    thread.start()
    seen = []
    while thread.is_alive() or reader.latest != reader.version:
        if reader.refresh(flat):
            assert flat.min() == flat.max() == reader.version
            seen.append(reader.version)
    thread.join()
    assert seen == sorted(set(seen))
    assert seen[-1] == 2000


def test_refresh_copies_only_what_is_new() -> None:
    memory = memoryview(bytearray(weights_bytes(3)))
    writer, reader = PolicyWriter(memory, 3), PolicyReader(memory, 3)
    flat = np.zeros(3, np.float32)
    writer.publish(np.array([1, 2, 3], np.float32), 1)
    assert reader.refresh(flat)
    assert flat.tolist() == [1, 2, 3]
    assert not reader.refresh(flat)
