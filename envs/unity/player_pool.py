"""The players of one manager: started, watched, answered, and started again when they fail.

Whatever fails, fails alone: a player that ends, does not answer in time or sends what cannot be used is started again,
and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import selectors
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from envs.parameters import Parameters
from envs.process.lifetime import described_end
from envs.process.messages import dispatch
from envs.process.peers import refusal
from envs.process.player_launcher import Ended, Launched, Launcher, earlier_log
from envs.process.restarts import FIRST_BACKOFF_SECONDS, Budget, InstanceEvent
from envs.seeding import episode_seed
from envs.spec import Array, Lessons, UserError
from envs.unity.channels import Channels
from envs.unity.config import UnityConfig
from envs.unity.protocol.decoding import encode_reply
from envs.unity.protocol.server import Arrived, Connected, Event, Failed, Noted, PlayerServer, UnexpectedClient


@dataclass
class Player:
    """One instance, from one start to its end."""

    key: int
    """Of this start, among all."""
    instance: int
    server: PlayerServer
    channels: Channels
    deadline: float
    """When its next message is overdue (monotonic)."""
    lessons: Lessons
    """Those in which episodes begin that it begins before its next answer."""
    connected: bool = False
    pid: int | None = None
    """Of its process, once it is there."""
    answered: float = math.inf
    """When it was last answered (perf_counter)."""
    leaving: str = ""
    """Why it has failed, while its exit status may still come."""
    playing: dict[tuple[str, int], Lessons] = field(default_factory=dict)
    """By behavior and agent, the lessons in which the open episode is played."""
    ended: bool = False
    """Whether episodes have ended since it was last answered."""
    drawn: int = 0
    """How often it was drawn in which lessons its next episodes are played."""

    def answer(self, reply: bytes, step_timeout: float) -> None:
        """Lets the player go on; its next message is due in `step_timeout` seconds."""
        if self.leaving:  # no answer would arrive
            return
        self.deadline = time.monotonic() + step_timeout
        self.answered = time.perf_counter()
        self.server.reply(reply)


class PlayerPool:
    """All players of one manager.

    Args:
        config: how players are started, and how many.
        seed: the run's; each start of an instance has its own.
        logs: folder for the players' logs.
        selector: where the players' sockets are watched; the data of every key in it is a function to call.
        budget: restarts that instances may take, and events.
        launches: (I,) int64, how often each instance was started; counted on.
        lessons: in which episodes begin.
    """

    def __init__(
        self,
        config: UnityConfig,
        seed: int,
        logs: Path,
        selector: selectors.BaseSelector,
        *,
        budget: Budget,
        launches: Array,
        lessons: Lessons,
    ) -> None:
        self.launches, self.lessons = launches, lessons
        self.of: list[Player | None] = [None] * config.instances
        """By instance: its player, or None while there is none."""
        self.failed: list[int] = []
        """Instances that have failed since the manager last took note."""
        self.step_timeout = math.inf if config.editor else config.step_timeout  # a person may pause the game
        self.proven = False
        """Whether agents have learned something from a step: then a game that cannot be trained on is one player's."""
        self._noted: set[str] = set()
        self._config, self._instances, self._seed, self._logs = config, config.instances, seed, logs
        self._parameters = Parameters(config.parameters)
        self._selector, self._budget, self._instance_events = selector, budget, budget.events
        self._events: deque[tuple[int, Event | Ended]] = deque()
        self._by_key: dict[int, Player] = {}
        self._keys = itertools.count()
        self._failed_once: set[int] = set()
        self._any_connected = False
        self._due: list[tuple[float, int]] = []
        """Heap of restarts: when, which instance."""
        self.check_at = 0.0
        """When `check` is due (monotonic)."""
        self._launcher: Launcher | None = None

    def launch(self, instance: int) -> None:
        """Starts a player for an instance that has none; UserError if the Editor's port is taken."""
        env = self._config
        seed = episode_seed(self._seed, instance, int(self.launches[instance])) & 0x7FFF_FFFF
        self.launches[instance] += 1
        lessons = self._parameters.played(self.lessons, seed)
        channels = Channels(env.engine, self._parameters.in_force(lessons), env.channels, seed)
        key = next(self._keys)
        first = encode_reply({}, channels.outgoing(), reset=True)
        report = partial(self._add_event, key)
        server = PlayerServer(env.port if env.editor else 0, seed, env.num_areas, first, self._selector, report)
        # Once it has connected, the Editor may rest between Stop and Play.
        patience = math.inf if env.editor and self._any_connected else env.connect_timeout
        player = Player(key, instance, server, channels, time.monotonic() + patience, lessons)
        self.of[instance] = self._by_key[key] = player
        log, output = self._log_files(instance)
        for file in (log, output, earlier_log(log), earlier_log(output)):
            with contextlib.suppress(OSError):
                file.replace(file.with_suffix(f".previous{file.suffix}"))
        command = env.command(server.port, log)
        if command is None:
            server.listen(partial(refusal, launched=None))
            self._instance_events.append(
                InstanceEvent("note", instance, f"Waiting for the Unity Editor on port {env.port}: press Play.")
            )
            return
        if self._launcher is None:
            self._launcher = Launcher()
            self._selector.register(self._launcher.inbox.socket, selectors.EVENT_READ, self._take_exits)
        # Else gRPC would dial even this machine through a proxy.
        direct = ",".join(filter(None, (os.environ.get("no_proxy"), "localhost,127.0.0.1,::1")))
        self._launcher.launch(key, command, str(output), {"no_proxy": direct}, str(log))

    def next_message(self, delivered: set[int]) -> tuple[Player, Arrived] | None:
        """Returns the next message of a player, or None; what else has happened on the way is handled.

        The failure of an instance in `delivered` is left for later: it comes after the instance's message.

        Raises:
            InstanceFailed: an instance failed once more than its budget allows.
            UserError: no player could be started, or one serves what cannot be trained on.
        """
        while self._events:
            key, event = self._events[0]
            player = self._by_key.get(key)
            if player is not None and player.instance in delivered and not isinstance(event, Arrived):
                return None
            self._events.popleft()
            if player is None:  # of a start that is over
                continue
            if isinstance(event, Arrived):
                return player, event
            self._take_event(player, event)
        return None

    def poll(self, seconds: float) -> None:
        """Waits until something happens, at most so long, and reads what has come."""
        dispatch(self._selector, 0.0 if self._events else seconds)

    def check(self, now: float) -> None:
        """Restarts what is due, and looks for players that are late."""
        while self._due and self._due[0][0] <= now:
            _, instance = heapq.heappop(self._due)
            self.launch(instance)
            if not self._config.editor:
                self._instance_events.append(InstanceEvent("restart", instance, f"Instance {instance}: starts again."))
        for player in self.of:
            if player is not None and player.deadline <= now:
                if player.leaving:
                    why = player.leaving
                elif player.answered < math.inf:
                    why = f"it did not answer within {self.step_timeout:g} s (env.step_timeout)"
                else:
                    what = "send its first agents" if player.connected else "connect"
                    why = f"it did not {what} within {self._config.connect_timeout:g} s (env.connect_timeout)"
                self.fail(player, why, unheard=True)
        self.check_at = min(
            now + min(_CHECK_SECONDS, self.step_timeout / 4), self._due[0][0] if self._due else math.inf
        )

    def fail(self, player: Player, why: str, unheard: bool = False) -> None:
        """Ends a player that has failed, and plans its next start; `unheard`: it has not said why itself."""
        instance = player.instance
        del self._by_key[player.key]
        self.of[instance] = None
        if self._launcher is not None:
            self._launcher.kill(player.key)
        player.server.stop()
        self.failed.append(instance)
        text = f"Instance {instance}: {why}.{self._log_end(instance)}"
        self._failed_once.add(instance)
        if not self._any_connected and len(self._failed_once) == self._instances:
            causes = _CAUSES_EDITOR if self._config.editor else _CAUSES
            raise UserError(f"{text.rstrip()}\n{causes}" if unheard else text.rstrip())
        if self._config.editor:
            self._schedule(instance, time.monotonic() + FIRST_BACKOFF_SECONDS)
            self._instance_events.append(InstanceEvent("fault", instance, f"The Unity Editor: {why}."))
            return
        due = self._budget.next_start([instance], text, {instance: text})
        if due is not None:
            self._schedule(instance, due)

    def reject(self, player: Player, error: UserError) -> None:
        """Ends a player whose game cannot be trained on.

        Raises:
            UserError: none has been shown to be any better.
        """
        if not self.proven:
            raise error
        self.fail(player, str(error))

    def note(self, player: Player, text: str) -> None:
        """Reports something that is nobody's failure, once for all players."""
        if text not in self._noted and len(self._noted) < _MOST_NOTES:
            self._noted.add(text)
            self._instance_events.append(
                InstanceEvent("unexpected", player.instance, f"Instance {player.instance}: {text}.")
            )

    def close(self) -> None:
        """Lets the players quit, and kills those that do not. Calling it again does nothing."""
        players = [player for player in self.of if player is not None]
        self.of = [None] * self._instances
        for player in players:
            player.server.close()
        until = time.monotonic() + _QUIT_SECONDS
        ended: set[int] = set()
        while (wait := until - time.monotonic()) > 0:
            if self._launcher is not None:
                left = any(player.key not in ended for player in players)
            else:  # the Editor, which stays
                left = any(player.server.occupied for player in players)
            if not left:
                break
            self.poll(wait)
            ended |= {key for key, event in self._events if isinstance(event, Ended)}
            self._events.clear()
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None
        for player in players:
            player.server.stop()

    def _schedule(self, instance: int, due: float) -> None:
        heapq.heappush(self._due, (due, instance))
        self.check_at = min(self.check_at, due)

    def _add_event(self, key: int, event: Event | Ended) -> None:
        if isinstance(event, Arrived) and key in self._by_key:
            self._by_key[key].deadline = math.inf
        self._events.append((key, event))

    def _take_event(self, player: Player, event: Event | Ended) -> None:
        if isinstance(event, Connected):
            player.connected = self._any_connected = True
            player.deadline = time.monotonic() + self._config.connect_timeout  # its scene has to load
        elif isinstance(event, UserError):
            self.reject(player, event)
        elif isinstance(event, Noted):
            self.note(player, event.text)
        elif isinstance(event, UnexpectedClient):
            text = f"somebody at {event.address} who is no player connected to port {player.server.port}"
            text += f" and was refused ({event.why}); the player is waited for as before."
            self._instance_events.append(
                InstanceEvent("unexpected", player.instance, f"Instance {player.instance}: {text}")
            )
        elif isinstance(event, Failed) and event.left and player.pid is not None:
            player.leaving = event.why
            player.deadline = time.monotonic() + _EXIT_SECONDS
            self.check_at = min(self.check_at, player.deadline)
        elif isinstance(event, Failed):
            self.fail(player, event.why)
        elif isinstance(event, Ended):
            unheard = event.status is not None
            why = described_end(event.status) if unheard else f"it could not be started: {event.error}"
            self.fail(player, why, unheard)

    def _log_files(self, instance: int) -> tuple[Path, Path]:
        """Returns absolute paths of what the player logs, and of what it prints."""
        folder = self._logs.resolve()
        return folder / f"player_{instance}.log", folder / f"player_{instance}.out"

    def _log_end(self, instance: int) -> str:
        words = ""
        for file in self._log_files(instance):
            data = b"".join(map(_end_of, (earlier_log(file), file)))[-_TAIL_BYTES:]
            lines = data.replace(b"\0", b"").decode("utf-8", "replace").splitlines()
            if any(line.strip() for line in lines):
                words += f" The end of {file}:\n" + "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) + "\n"
        return words

    def _take_exits(self) -> None:
        launcher = self._launcher
        if launcher is None:
            return
        for event in launcher.inbox.take():
            if isinstance(event, Launched):
                if (player := self._by_key.get(event.key)) is not None:
                    player.pid = event.pid
                    player.server.listen(partial(refusal, launched=event.pid))
            else:
                self._events.append((event.key, event))
        if launcher.inbox.closed:
            self._selector.unregister(launcher.inbox.socket)
            why = f"its launcher, the process that launched it, has ended: {launcher.ended()}"
            launcher.close()
            self._launcher = None
            for player in self._by_key.values():
                if player.pid is not None:
                    with contextlib.suppress(OSError):
                        os.kill(player.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            self._events += [(key, Failed(why)) for key in self._by_key]


def _end_of(file: Path) -> bytes:
    """Returns the last bytes of a file; none if it cannot be read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            return opened.read(_TAIL_BYTES)
    except OSError:
        return b""


_CHECK_SECONDS = 1.0
_MOST_NOTES = 64
_EXIT_SECONDS = 1.0
_QUIT_SECONDS = 5.0
_TAIL_LINES = 15
_TAIL_BYTES = 8192
_CAUSES = (
    "The usual causes: the build is no ML-Agents game, or its agents' Behavior Type is not Default; it waits for a "
    "person or a screen (env.no_graphics=true, or a server build); it needs longer to start (env.connect_timeout)."
)
_CAUSES_EDITOR = (
    "The usual causes: nobody has pressed Play in the Unity Editor; its scene has no agent whose Behavior Type is "
    "Default; the game was started with another port."
)
