import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from envs.gym.replay_gif import animated_gif
from trainer.telemetry.metrics import EPISODES, EpisodeStatistics
from trainer.telemetry.tensorboard import TensorBoard


def frames(count: int, height: int = 60, width: int = 80) -> list[np.ndarray]:
    return [np.full((height, width, 3), 10 * i, np.uint8) for i in range(count)]


def test_means_are_over_the_last_episodes() -> None:
    statistics = EpisodeStatistics()
    assert statistics.mean("reward") is None
    for i in range(EPISODES + 50):
        assert statistics.full == (i >= EPISODES)
        values = statistics.add(float(i), 2 * i, {"bubbles": 3.0})
        assert values == {"bubbles": 3.0, "reward": i, "length": 2 * i}
    assert statistics.episodes == EPISODES + 50
    assert statistics.mean("reward") == pytest.approx(50 + (EPISODES - 1) / 2)
    assert statistics.scalars() == {
        "episode/bubbles": 3.0,
        "episode/reward": pytest.approx(50 + (EPISODES - 1) / 2),
        "episode/length": pytest.approx(100 + EPISODES - 1),
    }


def test_a_resumed_run_goes_on_with_its_statistics() -> None:
    whole, first, second = EpisodeStatistics(), EpisodeStatistics(), EpisodeStatistics()
    for i in range(3 * EPISODES):
        whole.add(i * 0.1, i, {"x": i % 3})
        (first if i < 150 else second).add(i * 0.1, i, {"x": i % 3})
        if i == 149:
            second.load_state(json.loads(json.dumps(first.state())))
    assert second.scalars() == whole.scalars()
    assert second.episodes == whole.episodes


def test_scalars_and_moving_pictures_stand_at_their_samples(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.values(100, 0.0, {"episode/reward": 0.5, "loss/policy": 2.0})
    board.values(200, 0.0, {"episode/reward": 0.75})
    file = tmp_path / "play.gif"
    file.write_bytes(animated_gif(frames(5), 10))
    board.picture(200, "play", file)
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("episode/reward")] == [(100, 0.5), (200, 0.75)]
    assert [(e.step, e.value) for e in events.Scalars("loss/policy")] == [(100, 2.0)]
    (picture,) = events.Images("play")
    assert (picture.step, picture.width, picture.height) == (200, 80, 60)
    assert Image.open(io.BytesIO(picture.encoded_image_string)).n_frames == 5


def test_points_that_a_resume_has_undone_are_hidden_and_the_last_before_it_stays(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for samples in (100, 200, 300):
        board.values(samples, 0.0, {"x": 1.0})
    board.close()
    time.sleep(1.0)  # files are read in the order of their names, which hold whole seconds
    board = TensorBoard(tmp_path, samples=200)
    board.values(250, 0.0, {"x": 2.0})
    board.close()
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("x")
    assert [(e.step, e.value) for e in points] == [(100, 1.0), (200, 1.0), (250, 2.0)]


def test_a_run_that_begins_again_hides_all_points_and_an_evaluation_none(tmp_path: Path) -> None:
    for samples, left in ((None, [100]), (None, [100, 100]), (0, [100])):
        board = TensorBoard(tmp_path, samples)
        board.values(100, 0.0, {"x": 1.0})
        board.close()
        assert [e.step for e in EventAccumulator(str(tmp_path)).Reload().Scalars("x")] == left
        time.sleep(1.0)  # as above


def test_gifs_hold_every_frame_at_its_pace_and_shrink_large_ones() -> None:
    gif = animated_gif(frames(4, 400, 640), frames_per_second=20)
    image = Image.open(io.BytesIO(gif))
    assert image.size == (320, 200)
    assert (image.n_frames, image.info["duration"], image.info["loop"]) == (4, 50, 0)
