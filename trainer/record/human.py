"""Lets a person play in a window, with keys or mouse. Needs pygame (extra `human`), imported only here."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from envs.gym.adapter import Env
from envs.gym.replay_gif import picture
from envs.gym.spaces import ActionCodec
from envs.spec import Array, UserError
from trainer.config.errors import one_line
from trainer.record.episodes import Demonstrator, Moment, Quit, Restart


def check_window() -> None:
    """Raises UserError if pygame is missing."""
    if importlib.util.find_spec("pygame") is None:
        raise UserError('player=human needs pygame, which is not installed: pip install "outstep[human]"')


class Person(Demonstrator):
    """Shows what the environment renders, and takes its actions from keys and mouse.

    An environment may bring keys of its own, in one of two ways, and a pointer:
    `get_keys_to_action()`: actions by the keys that are held, as Gymnasium has it; `()` for none;
    `key_to_action(key)`: for each pressed key the action, or None if it only changes what is shown (an aim);
    `pointer_to_action(x, y, button)`: the same for the mouse, at shares of the picture; button 0 is the left one, 1 the
    right one, None if it was only moved.

    Args:
        env: renders `rgb_array`; reset once.
        keys: actions by key names (`left`, `left_shift`, `space-right`, `none`), in place of the environment's own.
        fps: steps a second; None = each action is waited for.
        episodes: how many there will be, for the title.
        stopped: asked several times a second; true ends the game.

    Raises:
        UserError: no screen, no picture, no keys, a key that does not exist, or an action that does not exist.
    """

    def __init__(
        self, env: Env, keys: Mapping[str, Any], fps: float | None, episodes: int, stopped: Callable[[], bool]
    ) -> None:
        self._env, self._fps, self._episodes, self._stopped = env, fps, episodes, stopped
        self._pygame = _open_pygame()
        try:
            own: Any = env.unwrapped
            self._pointer = getattr(own, "pointer_to_action", None)
            self._press = None if keys else getattr(own, "key_to_action", None)
            self._held = self._named_keys(keys) if keys else self._own_keys()
            self._check_keys()
            self._pressed: set[int] = set()
            self._tapped: set[int] = set()
            self._clock = self._pygame.time.Clock()
            self._screen = self._make_screen()
        except BaseException:
            self.close()
            raise

    def act(self, moment: Moment) -> Any:
        """Returns what the person does: Esc quits, Backspace restarts the episode."""
        self._show(moment)
        return self._wait() if self._fps is None else self._frame(self._fps)

    def ended(self, moment: Moment) -> None:
        """Shows the last picture for a while, and ignores what is pressed meanwhile."""
        self._show(moment)
        self._pygame.time.wait(END_MILLISECONDS)
        self._pygame.event.clear([self._pygame.KEYDOWN, self._pygame.MOUSEBUTTONDOWN])
        self._tapped.clear()

    def close(self) -> None:
        """Closes the window."""
        self._pygame.display.quit()

    def _wait(self) -> Any:
        """Returns the next action, however long it takes."""
        pygame = self._pygame
        while True:
            event = pygame.event.wait(_PATIENCE_MILLISECONDS)
            if self._stopped():
                raise Quit
            action = self._handle(event)
            if action is None and event.type == pygame.KEYDOWN:
                action = self._action_of(self._pressed, event.key)
            if action is not None:
                return action
            # A picture may take longer than the mouse needs to move on.
            aiming = (pygame.KEYDOWN, pygame.MOUSEMOTION)
            if event.type in aiming and not pygame.event.peek(aiming):
                self._draw()

    def _frame(self, fps: float) -> Any:
        """Returns the action of this frame: a click or what is held, or was pressed since the last frame."""
        self._clock.tick(fps)
        taken = [self._handle(event) for event in self._pygame.event.get()]
        clicked = [action for action in taken if action is not None]
        held, self._tapped = self._pressed | self._tapped, set()
        return clicked[-1] if clicked else self._action_of(held)

    def _handle(self, event: Any) -> Any:
        """Records what is pressed; returns the action if a click or a key of the environment's own makes one."""
        pygame = self._pygame
        if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
            raise Quit
        if event.type == pygame.KEYDOWN:
            if event.key == pygame.K_BACKSPACE:
                self._pressed.clear()
                self._tapped.clear()
                raise Restart
            self._pressed.add(event.key)
            self._tapped.add(event.key)
            return None if self._press is None else self._press(event.key)
        if event.type == pygame.KEYUP:
            self._pressed.discard(event.key)
        elif event.type == pygame.WINDOWFOCUSLOST:
            self._pressed.clear()
        elif self._pointer is not None and event.type == pygame.MOUSEMOTION:
            self._pointer(*self._share(event.pos), None)
        elif self._pointer is not None and event.type == pygame.MOUSEBUTTONDOWN and event.button in _BUTTONS:
            return self._pointer(*self._share(event.pos), _BUTTONS[event.button])
        return None

    def _action_of(self, pressed: set[int], newest: int | None = None) -> Any:
        """Of the combinations that are pressed, and hold the newest key, the largest one's action; else of no key."""
        fitting = [keys for keys in self._held if keys <= pressed and (newest is None or newest in keys)]
        return self._held[max(fitting, key=len)] if fitting else None

    def _share(self, position: tuple[int, int]) -> tuple[float, float]:
        width, height = self._screen.get_size()
        return (position[0] + 0.5) / width, (position[1] + 0.5) / height

    def _show(self, moment: Moment) -> None:
        title = f"episode {moment.episode} of {self._episodes} - reward {moment.reward:.4g} - {self._controls()}"
        self._pygame.display.set_caption(title)
        self._draw()

    def _draw(self) -> None:
        surface = self._pygame.surfarray.make_surface(_picture(self._env).swapaxes(0, 1))
        self._screen.blit(self._pygame.transform.scale(surface, self._screen.get_size()), (0, 0))
        self._pygame.display.flip()

    def _make_screen(self) -> Any:
        height, width = _picture(self._env).shape[:2]
        zoom = max(1, _LEAST_PIXELS // max(height, width))
        try:
            screen = self._pygame.display.set_mode((width * zoom, height * zoom))
        except self._pygame.error as error:
            raise _no_screen(error) from error
        if self._fps is None:
            self._pygame.key.set_repeat(300, 60)
        return screen

    def _controls(self) -> str:
        names = [f"{self._name(keys)}: {action}" for keys, action in self._held.items() if keys]
        own = self._env.unwrapped.metadata.get("controls") if self._press or not names else None
        return " - ".join([own or ", ".join(names), "Backspace: restart", "Esc: end"])

    def _name(self, keys: frozenset[int]) -> str:
        return "-".join(self._pygame.key.name(key).replace(" ", "_") for key in sorted(keys)) or "none"

    def _named_keys(self, keys: Mapping[str, Any]) -> dict[frozenset[int], Any]:
        held = {}
        for name, action in keys.items():
            try:
                parts = [] if name == "none" else str(name).split("-")
                codes = [self._pygame.key.key_code(part.replace("_", " ")) for part in parts]
            except ValueError as error:
                raise UserError(
                    f"keys.{name}={action}: there is no such key; names are left, space, left_shift, a, ..., left-up "
                    "for two at once, and none for no key"
                ) from error
            held[frozenset(codes)] = action
        return held

    def _own_keys(self) -> dict[frozenset[int], Any]:
        own = getattr(self._env.unwrapped, "get_keys_to_action", dict[Any, Any])()
        return {
            frozenset(
                ord(key) if isinstance(key, str) else int(key) for key in ((keys,) if isinstance(keys, int) else keys)
            ): action
            for keys, action in own.items()
        }

    def _check_keys(self) -> None:
        if not (any(self._held) or self._press or self._pointer):
            raise UserError(
                "player=human: the environment has no keys to play it with; give them, for example "
                "keys.left=0 keys.right=1"
            )
        if self._fps is not None and frozenset() not in self._held:
            raise UserError(
                f"fps={self._fps:g} needs an action for when no key is pressed: give it, for example keys.none=0, "
                "or leave out fps, and the game waits for each key"
            )
        codec = ActionCodec(self._env.action_space)
        for keys, action in self._held.items():
            try:
                codec.encode(action)
            except ValueError as error:
                key = f"keys.{self._name(keys)}={action}"
                raise UserError(f"{key} is not an action of the environment: {error}") from error


def _open_pygame() -> Any:
    check_window()
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources
        import pygame
    try:
        pygame.display.init()
        if pygame.display.get_driver() in _BLIND and "SDL_VIDEODRIVER" not in os.environ:
            raise pygame.error(f"SDL found {pygame.display.get_driver()!r} only")
    except pygame.error as error:
        raise _no_screen(error) from error
    return pygame


def _no_screen(error: Exception) -> UserError:
    return UserError(f"player=human needs a screen, and none can be opened: {one_line(error)}")


def _picture(env: Env) -> Array:
    try:
        return picture(env.render())
    except ValueError as error:
        raise UserError(f"player=human needs pictures: {error}") from error


END_MILLISECONDS = 700
"""How long an episode's last picture stays."""
_PATIENCE_MILLISECONDS = 200
_LEAST_PIXELS = 512
"""Smaller pictures are enlarged, to at most this, by a whole factor."""
_BLIND = ("dummy", "offscreen")
"""SDL's drivers that show nothing, which it falls back to."""
_BUTTONS = {1: 0, 3: 1}
"""Left and right, of pygame's buttons."""
