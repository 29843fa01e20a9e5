"""Recorded demonstrations are read as the episodes that they are; whatever is wrong with a file is told in one line."""

import contextlib
import hashlib
import re
import tracemalloc

import numpy as np
import pytest

import envs.unity.demo.reader
from envs.spec import BehaviorSpec, ObservationSpec, UserError
from envs.unity.demo.reader import read_demo
from envs.unity.protocol.messages import message
from tests.envs.unity.demo.demo_files import delimited, file_of, floats, old_parameters, pair, parameters, png, walk

RUNNER = parameters(branches=(3,))


@pytest.fixture
def read(tmp_path):
    def read(data):
        path = tmp_path / "x.demo"
        path.write_bytes(data)
        return read_demo(path)

    return read


def assert_walk(episode, steps, terminated=True, first=0):
    np.testing.assert_array_equal(episode.observations[0], np.repeat(np.arange(first, first + steps), 2).reshape(-1, 2))
    np.testing.assert_array_equal(episode.discrete[:, 0], np.arange(steps) % 3)
    np.testing.assert_array_equal(episode.rewards, np.arange(1, steps + 1))
    assert episode.terminated == terminated
    assert [len(final) for final in episode.final_observations] == [0 if terminated else 1]
    assert episode.mask.shape == (steps, 3)
    assert len(episode.final_mask) == (0 if terminated else 1)


def test_records_become_steps_with_what_the_next_record_tells(read):
    demo = read(file_of(walk(4), RUNNER))
    assert demo.spec == BehaviorSpec("Runner", (ObservationSpec("sensor", (2,), "float32"),), 0, (3,), masked=True)
    assert (demo.name, demo.behavior, demo.api_version, demo.forbidden) == ("Test", "Runner", 1, 0)
    (episode,) = demo.episodes
    assert_walk(episode, 4)
    assert [a.dtype for a in (*episode.observations, episode.mask, episode.discrete, episode.rewards)] == [
        np.float32,
        bool,
        np.int32,
        np.float32,
    ]


def test_episodes_end_in_their_own_way_and_those_without_steps_are_left_out(read):
    pairs = [*walk(2), *walk(3, first=10, max_step_reached=True), *walk(0), *walk(5, first=20, done=False)]
    episodes = read(file_of(pairs, RUNNER)).episodes
    assert len(episodes) == 3
    assert_walk(episodes[0], 2)
    assert_walk(episodes[1], 3, terminated=False, first=10)
    assert_walk(episodes[2], 5, terminated=False, first=20)
    assert [each.final_observations[0].tolist() for each in episodes[1:]] == [[[13, 13]], [[25, 25]]]


def test_the_digest_is_of_the_whole_file(read):
    data = file_of(walk(3), RUNNER, tail=b"\x08")
    assert read(data).digest == hashlib.sha256(data).hexdigest()


def test_many_records_are_read_like_few(read):
    (episode,) = read(file_of(walk(1500), RUNNER)).episodes
    assert_walk(episode, 1500)


@pytest.mark.parametrize("length", range(31))
def test_a_tail_is_no_record(read, length):
    tail = message("demonstration_meta", "DemonstrationMetaProto")(api_version=1, demonstration_name="Test" * 9)
    (episode,) = read(file_of(walk(3), RUNNER, tail=tail.SerializeToString()[:length])).episodes
    assert_walk(episode, 3)


@pytest.mark.parametrize("at", [32, 33])
@pytest.mark.parametrize("behavior", [RUNNER, old_parameters([3], continuous=False)])
def test_the_second_header_is_found_where_it_stands(read, at, behavior):
    assert_walk(read(file_of(walk(3), behavior, at=at)).episodes[0], 3)


@pytest.mark.parametrize("version", [0, 1])
def test_both_versions_are_read(read, version):
    assert read(file_of(walk(3), RUNNER, api_version=version)).api_version == version


def test_group_rewards_count(read):
    pairs = [pair(floats([1]), discrete=[0]), pair(floats([2]), done=True, reward=1.5, group_reward=2, group_id=3)]
    assert read(file_of(pairs, RUNNER)).episodes[0].rewards.tolist() == [3.5]


def test_old_action_fields_are_read(read):
    pairs = [pair(floats([t]), old=[2.0, 1.0], done=t == 2) for t in range(3)]
    discrete = read(file_of(pairs, old_parameters([3, 2], continuous=False)))
    assert discrete.spec.branches == (3, 2)
    assert discrete.episodes[0].discrete.tolist() == [[2, 1], [2, 1]]
    continuous = read(file_of(pairs, old_parameters([2], continuous=True)))
    assert (continuous.spec.continuous_size, continuous.spec.masked) == (2, False)
    assert continuous.episodes[0].continuous.tolist() == [[2, 1], [2, 1]]
    mixed = read(file_of(pairs, parameters(continuous=1, branches=(2,)))).episodes[0]
    assert (mixed.continuous.tolist(), mixed.discrete.tolist()) == ([[2], [2]], [[1], [1]])


def test_new_action_fields_are_read(read):
    pairs = [pair(floats([t]), continuous=[0.5, -3], discrete=[t], done=t == 2) for t in range(3)]
    (episode,) = read(file_of(pairs, parameters(continuous=2, branches=(3,)))).episodes
    assert (episode.continuous.tolist(), episode.discrete.tolist()) == ([[0.5, -3]] * 2, [[0], [1]])


def test_masks_say_what_is_allowed_and_choices_against_them_are_counted(read):
    masks = [[False, True, False], [], [True, False, True], [False, True, True]]
    pairs = [pair(floats([t]), discrete=[c], action_mask=m) for t, (c, m) in enumerate(zip([1, 1, 1, 0], masks))]
    demo = read(file_of(pairs, RUNNER))
    (episode,) = demo.episodes
    assert episode.mask.tolist() == [[True, False, True], [True] * 3, [False, True, False]]
    assert episode.final_mask.tolist() == [[True, False, False]]
    assert demo.forbidden == 1


@pytest.mark.parametrize(
    ("first", "properties"), [(False, (2, 2, 1)), (True, (1, 2, 2)), (True, (0, 0, 0)), (False, ()), (True, ())]
)
@pytest.mark.parametrize("compressed", [True, False])
def test_images_are_hwc_however_they_were_sent(read, first, properties, compressed):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    if compressed:
        sent = [png(picture, properties, first) for picture in pictures]
    else:
        sent = [floats(picture.transpose(2, 0, 1) if first else picture, properties, "camera") for picture in pictures]
    demo = read(file_of([pair(image, floats([1]), discrete=[0]) for image in sent], RUNNER))
    kind = ("uint8", 1 / 255) if compressed else ("float32", 1.0)
    assert demo.spec.observations[0] == ObservationSpec("camera", (6, 5, 3), *kind)
    np.testing.assert_array_equal(demo.episodes[0].observations[0], pictures[:2])
    np.testing.assert_array_equal(demo.episodes[0].final_observations[0], pictures[2:])


def bad_record(**changes):
    """Four records of which the third is `changes` off, in one observation of two numbers and one branch of three."""
    fields = {"observations": [floats([0, 0])], "discrete": [0], **changes}
    pairs = walk(3)
    pairs[2] = pair(*fields.pop("observations"), **fields)
    return file_of(pairs, RUNNER)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": []}, "it has 0 observations, not 1"),
        ({"observations": [floats([1, 2, 3])]}, "'sensor' has 3 floats of shape [3], not 2 finite floats of shape [2]"),
        ({"observations": [floats([[1, 2]])]}, "'sensor' has 2 floats of shape [1, 2], not 2 finite"),
        ({"observations": [floats([1, np.nan])]}, "observation 'sensor' has the value nan as number 1, not 2 finite"),
        ({"reward": np.inf}, "its reward is inf"),
        ({"group_reward": -np.inf}, "its reward is -inf"),
        ({"discrete": []}, "it has 0 discrete actions, not 1"),
        ({"discrete": [1, 1]}, "it has 2 discrete actions, not 1"),
        ({"continuous": [1.0]}, "it has 1 continuous actions, not 0"),
        ({"discrete": [3]}, "its choice in branch 0 is 3, not one of 0 to 2"),
        ({"discrete": [-1]}, "its choice in branch 0 is -1, not one of 0 to 2"),
        ({"discrete": [], "old": [1.5]}, "its choice in branch 0 is 1.5, not one of 0 to 2"),
        ({"discrete": [], "old": [np.nan]}, "its choice in branch 0 is nan, not one of 0 to 2"),
        ({"discrete": [], "old": [np.inf]}, "its choice in branch 0 is inf, not one of 0 to 2"),
        ({"action_mask": [True]}, "its action mask has 1 entries, not 3 for branches [3]"),
        ({"action_mask": [True] * 3}, "its action mask leaves a branch without a choice"),
    ],
)
def test_what_is_wrong_in_a_record_is_told_with_its_number(read, changes, words):
    with pytest.raises(UserError, match=rf"x\.demo: record 3: .*{re.escape(words)}"):
        read(bad_record(**changes))


def test_continuous_actions_must_be_finite(read):
    pairs = [pair(floats([t]), continuous=[0, np.nan if t == 1 else 0]) for t in range(3)]
    with pytest.raises(UserError, match="record 2: its continuous action 1 is nan"):
        read(file_of(pairs, parameters(continuous=2)))


def test_pictures_must_be_of_the_size_that_the_first_one_has(read):
    small, large = (png(np.zeros((size, size, 3), np.uint8)) for size in (4, 9))
    large.shape[:] = [4, 4, 3]
    with pytest.raises(UserError, match=r"record 2: observation 'camera' has a PNG of 9 x 9 pixels, not PNGs of shape"):
        read(file_of([pair(image, discrete=[0]) for image in (small, large, small)], RUNNER))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x.demo: it is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(999), "it is no demonstration of ML-Agents"),
        (b"a text, which is long enough for a header" * 9, "it is no demonstration of ML-Agents"),
        (b"\xff" * 99, "more than the 10 bytes"),
        (bytes(99), "no behavior parameters with actions stand at byte 33"),
        (file_of(walk(3), RUNNER, api_version=2), "it has API version 2, not 0 or 1"),
        (file_of(walk(3), RUNNER, number_steps=-1), "its header claims -1 records"),
        (file_of(walk(3), RUNNER, number_steps=9), r"it ends in record 5 of 9 \(a length was expected at byte"),
        (file_of(walk(3), RUNNER, demonstration_name="a long name" * 9), "its meta takes 10. bytes, not at most 33"),
        (file_of(walk(3), RUNNER, demonstration_name="-" * 28 + delimited(RUNNER).decode()), "its meta takes"),
        (file_of([], RUNNER), "it holds no records"),
        (file_of([], RUNNER, number_episodes=1, tail=b"\x08\x01\x12\x04Test \x01"), "it holds no records"),
        (file_of([pair()], RUNNER), "record 1: it has no observations, not at least one"),
        (file_of([], RUNNER, tail=b"\x02\xff\xff"), "record 1: its 2 bytes are no pair of an agent and its action"),
        (file_of([], RUNNER, tail=b"\xff" * 11), "record 1: the length at byte .* has more than the 10 bytes"),
        (file_of(walk(3), parameters()), "x.demo: header and record 1: behavior 'Runner' has no usable actions"),
        (file_of(walk(3), parameters(branches=(2**30,))), "behavior 'Runner' has no usable actions"),
        (file_of([pair(floats([1], [4]), discrete=[0])], RUNNER), "observation 'sensor' is of variable length, with"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(read, data, words):
    with pytest.raises(UserError, match=words) as raised:
        read(data)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.demo"):
        with pytest.raises(UserError, match="it cannot be read"):
            read_demo(path)


def small_file(**fields):
    camera = png(np.arange(27, dtype=np.uint8).reshape(3, 3, 3))
    pairs = [
        pair(
            floats([t, t]),
            camera,
            continuous=[0.5],
            discrete=[1],
            action_mask=[False] * 3,
            reward=1.0,
            done=t in (2, 4),
        )
        for t in range(5)
    ]
    return file_of(pairs, parameters(continuous=1, branches=(3,)), **fields)


def test_a_file_that_is_cut_off_anywhere_is_refused(read):
    data = small_file()
    assert len(read(data).episodes) == 2
    for length in range(len(data)):
        with pytest.raises(UserError):
            read(data[:length])


def test_a_recording_that_was_not_closed_is_read_as_far_as_whole_records_go(read):
    data, whole = small_file(number_steps=0), []
    start = len(file_of([], parameters(continuous=1, branches=(3,)), number_steps=0))
    record = (len(data) - start) // 5
    for length in range(len(data) + 1):
        try:
            whole.append(sum(len(each.rewards) for each in read(data[:length]).episodes))
        except UserError:
            assert length < start + record + 9  # a record of three is a few bytes longer
    assert sorted(set(whole)) == [0, 1, 2, 3]
    assert whole == sorted(whole)


def test_no_damaged_byte_leads_to_anything_but_an_error_or_a_demo(read):
    data = small_file(tail=bytes(5))
    tracemalloc.start()
    try:
        for place in range(len(data)):
            flipped = data[place] ^ (0xFF, 0x80, 0x01)[place % 3]
            with contextlib.suppress(UserError):
                read(data[:place] + bytes([flipped]) + data[place + 1 :])
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_claimed_shape_takes_no_memory(read):
    sensor = floats([1, 2])
    sensor.shape[:] = [2**24]
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"record 1: observation 'sensor' has 2 floats of shape \[16777216\]"):
            read(file_of([pair(sensor, discrete=[0])] * 2, RUNNER))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["picture", "mask"])
def test_what_takes_more_memory_than_there_is_is_refused_before_anything_is_unpacked(read, monkeypatch, what):
    monkeypatch.setattr(envs.unity.demo.reader, "available_memory", lambda: 2**28)
    if what == "picture":  # 2 copies of 100 of 3 MiB
        data = file_of([pair(png(np.zeros((1024, 1024, 3), np.uint8)), discrete=[0])] * 100, RUNNER)
    else:  # 2 copies of 10,000 of 16,384 choices
        data = file_of([pair(floats([0]), discrete=[0])] * 10_000, parameters(branches=(2**14,)))
    assert len(data) < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(
            UserError, match=r"x\.demo: its \d+ records would take [36]\d\d MiB of memory, but 256 MiB are"
        ):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_picture_in_more_pngs_than_it_has_channels_for_is_not_unpacked(read):
    camera = png(np.zeros((64, 64, 3), np.uint8))
    camera.compressed_data *= 1000
    camera.compressed_channel_mapping.extend([0, 1, 2] + [-1] * 2997)
    tracemalloc.start()
    try:
        with pytest.raises(
            UserError, match="record 1: observation 'camera' has a channel mapping of 3000 entries, not"
        ):
            read(file_of([pair(camera, discrete=[0])] * 2, RUNNER))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_unknown_fields_are_passed_over(read):
    pairs = [pair(floats([t]), discrete=[0]) for t in range(20)]
    for each in pairs:
        each.agent_info.MergeFromString(b"\x3a\x04" + np.float32(5).tobytes())  # field 7 is the reward, but no bytes
    assert read(file_of(pairs, RUNNER)).episodes[0].rewards.tolist() == [0] * 19
