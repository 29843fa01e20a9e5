"""A person records: posted events of pygame on a screen that is none."""

import signal

import gymnasium
import numpy as np
import pytest

import trainer.record.human
from envs.games.keys import DOWN, LEFT, RIGHT, SPACE
from envs.unity.demo.reader import read_demo
from trainer.record.__main__ import main

pygame = pytest.importorskip("pygame")


@pytest.fixture(autouse=True)
def screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setattr(trainer.record.human, "END_MILLISECONDS", 0)
    yield
    pygame.display.quit()


@pytest.fixture
def demo(tmp_path):
    return tmp_path / "mine.demo"


def key(code):
    return [pygame.event.Event(kind, key=code) for kind in (pygame.KEYDOWN, pygame.KEYUP)]


def click(x, y, button=1):
    return [pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=(x, y), button=button)]


@pytest.fixture
def person(monkeypatch):
    """Posts one event, or calls a function, whenever the window waits for one; then closes it."""

    def does(*script):
        events = [event for each in script for event in (each if isinstance(each, list) else [each])]
        real, titles = pygame.event.wait, []

        def wait(milliseconds):
            titles.append(pygame.display.get_caption()[0])
            event = events.pop(0) if events else pygame.event.Event(pygame.QUIT)
            if callable(event):
                event()
            else:
                pygame.event.post(pygame.event.Event(event.type, dict(event.dict)))  # it takes each only once
            return real(milliseconds)

        monkeypatch.setattr(pygame.event, "wait", wait)
        return titles

    return does


def test_an_episode_of_basic_is_played_by_keys(demo, person, capsys):
    titles = person(key(LEFT), key(DOWN), *[key(RIGHT)] * 8)
    assert main(["env=basic", "player=human", f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert episode.discrete[:, 0].tolist() == [1, 0] + [2] * 8
    assert episode.terminated
    assert titles[0] == "episode 1 of 1 - reward 0 - down: 0, left: 1, right: 2 - Backspace: restart - Esc: end"
    assert titles[-1].startswith("episode 1 of 1 - reward -0.09")
    assert capsys.readouterr().out.splitlines()[0] == "episode 1 of 1  reward 0.9  length 10"


def test_a_game_of_bubbles_is_played_by_mouse(demo, person, capsys):
    env = gymnasium.make("envs.games:BubbleShooter-v0", render_mode="rgb_array").unwrapped
    height, width = env.render().shape[:2]
    move = [pygame.event.Event(pygame.MOUSEMOTION, pos=(30, 100), rel=(1, 1), buttons=(0, 0, 0))]
    person(move, *[click(10, 300), click(width // 2, 50, 3), click(width // 2, 50, 2)] * 6)
    assert main(["env=bubble_shooter", "env.kwargs.limit=6", "player=human", f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert len(episode.rewards) == 6
    left = env.pointer_to_action(10.5 / width, 300.5 / height, 0)
    assert left is not None
    assert episode.discrete.tolist() == [list(left), [15, 1]] * 3
    assert "bubbles 6" in capsys.readouterr().out


def test_the_cannon_is_turned_by_keys_too(demo, person):
    titles = person(*[[*key(LEFT), *key(LEFT), *key(SPACE)]] * 12)
    assert main(["env=bubble_shooter", "env.kwargs.limit=9", "player=human", f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert episode.discrete[:, 0].tolist() == [max(13 - 2 * shot, 0) for shot in range(9)]
    assert "mouse or left, right: aim" in titles[0]


def test_backspace_restarts_the_episode(demo, person):
    person(*[key(LEFT)] * 2, key(pygame.K_BACKSPACE), *[key(RIGHT)] * 7)
    assert main(["env=basic", "player=human", f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert episode.discrete[:, 0].tolist() == [2] * 7


@pytest.mark.parametrize("end", [lambda: key(pygame.K_ESCAPE), lambda: [pygame.event.Event(pygame.QUIT)]])
def test_escape_and_closing_the_window_keep_whole_episodes(demo, person, capsys, end):
    person(*[key(RIGHT)] * 10, end())
    assert main(["env=basic", "player=human", "episodes=9", f"to={demo}"]) == 0
    assert len(read_demo(demo).episodes) == 1
    assert "ended by the player after 1 of 9 episodes" in capsys.readouterr().out


def test_an_interrupt_ends_the_wait_for_a_person(demo, person):
    person(*[key(RIGHT)] * 8, lambda: signal.raise_signal(signal.SIGINT))
    assert main(["env=basic", "player=human", "episodes=2", f"to={demo}"]) == 130
    assert len(read_demo(demo).episodes) == 1


def test_keys_of_ones_own_replace_the_games(demo, person):
    person(*[key(pygame.K_a)] * 2, key(RIGHT), *[key(pygame.K_d)] * 9)
    assert main(["env=basic", "player=human", "keys.a=1", "keys.d=2", f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert episode.discrete[:, 0].tolist() == [1, 1] + [2] * 9


def test_keys_that_are_held_together_mean_their_combination(demo, person):
    a, d = key(pygame.K_a), key(pygame.K_d)
    # left alone, then both down: the combination; then the other alone
    person([a[0], d[0], a[1], d[1]], *[key(pygame.K_d)] * 8)
    assert main(["env=basic", "player=human", "keys.a=1", "keys.d=2", "keys.a-d=0", f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert episode.discrete[:, 0].tolist() == [1, 0] + [2] * 8


def test_in_real_time_nothing_pressed_is_an_action_too(demo, monkeypatch):
    frames = iter([[], [key(RIGHT)[0]], [], [key(RIGHT)[1]], [*key(LEFT)], *[[key(RIGHT)[0]]] * 20])

    class Clock:
        def tick(self, fps):
            assert fps == 20
            for event in next(frames):
                pygame.event.post(pygame.event.Event(event.type, dict(event.dict)))

    monkeypatch.setattr(pygame.time, "Clock", Clock)
    words = ["keys.none=0", "keys.left=1", "keys.right=2", "fps=20"]
    assert main(["env=basic", "player=human", *words, f"to={demo}"]) == 0
    (episode,) = read_demo(demo).episodes
    assert episode.discrete[:, 0].tolist() == [0, 2, 2, 0, 1] + [2] * 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env=basic", "keys.lefft=1"], "keys.lefft=1: there is no such key; names are left, space"),
        (
            ["env=basic", "keys.left=3"],
            "keys.left=3 is not an action of the environment: the action space takes 0..2, not 3",
        ),
        (
            ["env=basic", "fps=20"],
            "fps=20 needs an action for when no key is pressed: give it, for example keys.none=0",
        ),
        (
            ["env=gym", "env.id=tests.toys:Mixed-v0"],
            "environment 'tests.toys:Mixed-v0' cannot be made so that it renders",
        ),
        (["env=gym", "env.id=tests.toys:Oracle-v0"], "player=human: the environment has no keys to play it with"),
    ],
)
def test_what_a_person_cannot_play_is_refused(demo, capsys, words, message):
    assert main([*words, "player=human", f"to={demo}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}"), error
    assert error.count("\n") == 1
    assert not demo.exists()


def test_without_pygame_the_extra_is_named(demo, capsys, monkeypatch):
    monkeypatch.setattr(trainer.record.human.importlib.util, "find_spec", lambda name: None)
    assert main(["env=basic", "player=human", f"to={demo}"]) == 2
    assert capsys.readouterr().err.endswith('which is not installed: pip install "outstep[human]"\n')


def test_without_a_screen_that_is_said(demo, capsys, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "none-such")
    assert main(["env=basic", "player=human", f"to={demo}"]) == 2
    assert "player=human needs a screen, and none can be opened: " in capsys.readouterr().err


@pytest.mark.parametrize("driver", ["offscreen", "dummy"])
def test_a_screen_that_shows_nothing_is_none_unless_it_was_chosen(demo, capsys, monkeypatch, driver):
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setattr(pygame.display, "init", lambda: None)
    monkeypatch.setattr(pygame.display, "get_driver", lambda: driver)
    assert main(["env=basic", "player=human", f"to={demo}"]) == 2
    assert f"none can be opened: SDL found {driver!r} only" in capsys.readouterr().err


def test_small_pictures_are_enlarged(monkeypatch):
    env = gymnasium.make("envs.games:Basic-v0", render_mode="rgb_array")
    env.reset()
    small = np.zeros((84, 96, 3), np.uint8)
    monkeypatch.setattr(type(env.unwrapped), "render", lambda self: small)
    person = trainer.record.human.Person(env, {}, None, 1, lambda: False)
    assert pygame.display.get_surface().get_size() == (480, 420)
    person.close()
