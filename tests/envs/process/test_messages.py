import numpy as np
import pytest

from envs.process.messages import Inbox, send_object, socket_pair


@pytest.fixture
def ends():
    ours, theirs = socket_pair()
    with ours, theirs:
        yield Inbox(ours), theirs


def test_objects_arrive_whole_and_in_order(ends):
    inbox, there = ends
    for content in ("a", {"b": 1.5}, ("c", None)):
        send_object(there, content)
    assert inbox.take() == ["a", {"b": 1.5}, ("c", None)]
    assert inbox.take() == []
    assert not inbox.closed


def test_a_message_that_comes_in_pieces_is_waited_for_without_blocking(ends):
    inbox, there = ends
    other_ours, other = socket_pair()
    with other_ours, other:
        send_object(other, np.arange(1000))
        data = other_ours.recv(1 << 20)
    taken = []
    for start in range(0, len(data), 700):
        assert taken == []
        there.send(data[start : start + 700])
        taken = inbox.take()
    np.testing.assert_array_equal(taken[0], np.arange(1000))


def test_a_sender_that_has_gone_is_noticed_after_its_last_words(ends):
    inbox, there = ends
    send_object(there, "last")
    there.close()
    assert inbox.take() == ["last"]
    assert inbox.take() == []
    assert inbox.closed
