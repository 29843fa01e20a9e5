"""Videos of episodes: each step is in them, and with the last one they are there."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from PIL import Image, ImageSequence

from envs.gym import video
from envs.gym.replay_gif import MAX_FRAMES
from envs.gym.video import NUMBER, Filmed, video_file
from envs.spec import UserError
from tests.envs.gym.decoding import decoded


class Lamp(gymnasium.Env):
    """Lights up more with each of its `steps`, in 31 x 17 pixels."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, steps, modes=("rgb_array",)):
        self.steps, self.at = steps, 0
        self.metadata = {"render_modes": list(modes), "render_fps": 25}

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at += 1
        return np.zeros(1, np.float32), 1.0, self.at == self.steps, False, {"light": self.at}

    def render(self):
        return np.full((17, 31, 3), 255 * self.at // self.steps, np.uint8)


def played(env, folder):
    """Plays an episode; the file of its video."""
    env.reset()
    while True:
        *_, terminated, _, info = env.step(0)
        if terminated:
            assert info["light"] == env.unwrapped.at
            return video_file(folder, info[NUMBER])
        assert NUMBER not in info


def test_every_step_is_in_the_video_when_the_last_one_returns(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    env = Filmed(Lamp(20), str(tmp_path))
    first, second = played(env, tmp_path), played(env, tmp_path)
    assert {first, second} == set(tmp_path.iterdir())
    for file in (first, second):
        codec, frames_per_second, frames = decoded(file)
        assert (codec, frames_per_second, frames.shape) == ("h264", 25, (21, 18, 32, 3))
        lights = frames.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(lights, np.arange(21) * 255 // 20, atol=4)


def test_without_ffmpeg_a_gif_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "SUFFIX", ".gif")
    file = played(Filmed(Lamp(20), str(tmp_path)), tmp_path)
    assert file.suffix == ".gif"
    assert lights_of(file) == [255 * at // 20 for at in range(21)]


@pytest.mark.parametrize("steps", [MAX_FRAMES - 1, MAX_FRAMES, 3 * MAX_FRAMES + 1])
def test_a_gif_shows_a_long_episode_whole_in_time_lapse(tmp_path, monkeypatch, steps):
    monkeypatch.setattr(video, "SUFFIX", ".gif")
    lights = lights_of(played(Filmed(Lamp(steps), str(tmp_path)), tmp_path))
    assert MAX_FRAMES // 4 < len(lights) <= MAX_FRAMES
    assert (lights[0], lights[-1]) == (0, 255)
    assert max(np.diff(lights)) <= 255 * 8 / steps + 1


def test_an_episode_that_is_broken_off_leaves_the_next_one_alone(tmp_path):
    env = Filmed(Lamp(5), str(tmp_path))
    env.reset()
    env.step(0)
    whole = played(env, tmp_path)
    env.reset()
    env.close()
    assert whole.stat().st_size
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("modes", "reported"), [((), "it has none"), (("human", "ansi"), "it has human, ansi")])
def test_an_env_that_draws_no_pictures_is_refused(tmp_path, modes, reported):
    with pytest.raises(UserError, match=f"Lamp cannot be filmed: that takes the render mode rgb_array, {reported}"):
        Filmed(Lamp(5, modes), str(tmp_path))


def test_pictures_that_change_their_size_are_an_error(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    lamp = Lamp(5)
    env = Filmed(lamp, str(tmp_path))
    env.reset()
    lamp.render = lambda: np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match=r"of shape \(9, 9, 3\) after one of \(17, 31, 3\)"):
        env.step(0)
    env.close()


def lights_of(gif):
    with Image.open(gif) as image:
        return [frame.convert("L").getpixel((0, 0)) for frame in ImageSequence.Iterator(image)]
