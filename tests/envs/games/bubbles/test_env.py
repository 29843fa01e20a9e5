import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.games.bubbles.env import BubbleShooter
from envs.spec import UserError

ID = "envs.games:BubbleShooter-v0"


def play(env: gymnasium.Env, seed: int, steps: int) -> list:
    """Observations, rewards and infos of random play."""
    actions = np.random.default_rng(seed).integers(0, [31, 2], size=(steps, 2))
    observation, info = env.reset(seed=seed)
    seen = [(observation["board"].tolist(), observation["state"].tolist(), 0.0, info)]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation["board"].tolist(), observation["state"].tolist(), reward, info))
        if terminated or truncated:
            env.reset()
    return seen


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_no_fault():
    check_env(gymnasium.make(ID, render_mode="rgb_array").unwrapped)


def test_make_adds_neither_a_time_limit_nor_a_checker():
    env = gymnasium.make(ID)
    assert isinstance(env, gymnasium.wrappers.OrderEnforcing)
    assert isinstance(env.env, BubbleShooter)


def test_the_seed_decides_everything_durations_included():
    assert play(BubbleShooter(), 7, 200) == play(BubbleShooter(), 7, 200)
    assert play(BubbleShooter(), 7, 200) != play(BubbleShooter(), 8, 200)


def test_a_used_env_starts_anew_from_its_seed():
    env = BubbleShooter()
    first = play(env, 7, 200)
    assert play(env, 7, 200) == first


def test_resets_without_a_seed_give_different_boards():
    env = BubbleShooter()
    boards = {env.reset()[0]["board"].tobytes() for _ in range(5)}
    assert len(boards) == 5


def test_planes_show_the_board_from_the_bubbles_in_hand():
    env = BubbleShooter()
    env.reset(seed=0)
    game = env.game
    rng = np.random.default_rng(0)
    pairs = set()
    for _ in range(100):
        observation, _, terminated, _, _ = env.step(rng.integers(0, [31, 2]))
        planes = observation["board"]
        for cell in range(80):
            row, column = divmod(cell, 8)
            color = next((c for c, cells in enumerate(game.board) if cells >> cell & 1), None)
            same = [color is not None and color == held for held in game.hand]
            other = color is not None and color not in game.hand
            assert planes[:, row, column].tolist() == [*map(int, same), int(other)]
        pairs.add(game.hand[0] == game.hand[1])
        expected = [float(game.hand[0] == game.hand[1]), game.used / 60, game.occupied.bit_count() / 75]
        assert observation["state"].tolist() == pytest.approx(expected)
        if terminated:
            env.reset()
    assert pairs == {True, False}


def test_observations_are_zeros_and_ones_of_their_own_memory():
    env = BubbleShooter()
    first, _ = env.reset(seed=0)
    kept = first["board"].copy()
    env.step(np.array([15, 0]))
    assert (first["board"] == kept).all()
    assert first["board"].dtype == np.uint8
    assert env.observation_space["board"].high.max() == first["board"].max() == 1


def test_a_failed_game_terminates_and_counts_the_limit():
    env = BubbleShooter(limit=3)
    env.reset(seed=0)
    ends = [env.step(np.array([0, 0]))[2:] for _ in range(3)]
    assert [(terminated, truncated) for terminated, truncated, _ in ends] == [(False, False)] * 2 + [(True, False)]
    assert "bubbles" not in ends[1][2]
    assert (ends[2][2]["bubbles"], ends[2][2]["solved"]) == (3.0, 0.0)


def test_a_solved_game_terminates_and_tells_its_shots():
    env = BubbleShooter(filled_rows=1, colors=1)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.array([15, 0]))
    assert (terminated, truncated) == (True, False)
    assert (info["bubbles"], info["solved"]) == (1.0, 1.0)
    assert reward == pytest.approx(-0.1 + 9 * 0.03 + 1.0)


def test_every_step_tells_its_duration():
    durations = [info["duration"] for *_, info in play(BubbleShooter(), 0, 300)[1:]]
    level = BubbleShooter().level
    assert len(durations) == 300
    assert min(durations) >= level.base_seconds
    assert max(durations) > level.base_seconds + level.noise_seconds


def test_a_misspelt_argument_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="no argument 'colours'; did you mean 'colors'"):
        gymnasium.make(ID, colours=4)


@pytest.mark.parametrize("action", [[31, 0], [-1, 0], [0, 2]])
def test_an_action_outside_the_space_is_refused(action: list[int]):
    env = BubbleShooter()
    env.reset(seed=0)
    with pytest.raises(UserError, match="outside"):
        env.step(np.array(action))


def test_pictures_show_every_stage_of_a_game():
    env = gymnasium.make(ID, render_mode="rgb_array", limit=5)
    env.reset(seed=0)
    pictures = [env.render()]
    for _ in range(5):
        env.step(np.array([12, 0]))
        pictures.append(env.render())
    assert {(picture.shape, picture.dtype.name) for picture in pictures} == {((576, 416, 3), "uint8")}
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_play_imports_neither_pillow_nor_torch():
    code = (
        "import sys, gymnasium; env = gymnasium.make('envs.games:BubbleShooter-v0'); env.reset(seed=0); "
        "env.step(env.action_space.sample()); print({'PIL', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_rays_tell_what_each_direction_would_touch_first():
    env = BubbleShooter()
    observation, _ = env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(30):
        game = env.game
        current, following = game.hand
        for angle, (ours, theirs, other, ceiling, distance) in enumerate(observation["rays"].reshape(-1, 5)):
            hit = game.look(angle, current).hit
            touched = [color for color, cells in enumerate(game.board) if cells & hit.bit]
            assert ceiling == (not touched)
            assert ours == (touched == [current])
            assert theirs == (touched == [following])
            assert other == (bool(touched) and touched[0] not in (current, following))
            assert distance == np.float32(hit.distance / 20)
        observation, _, over, _, _ = env.step(np.array((rng.integers(31), rng.integers(2))))
        if over:
            observation, _ = env.reset()
