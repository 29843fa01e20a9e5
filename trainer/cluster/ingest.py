"""The ingest: it stands in the collector's place on the learner's host, and writes the rows that other hosts deliver.

To the learner it looks like a local collector. It pulls: two requests are on their way to each host, the next only
while the rate limiter lets games go on. What fails of a host ends that host's collector alone, and another takes its
place.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_bytes
from typing import Any

import numpy as np

from envs.api import InstanceEvent
from envs.process.messages import dispatch
from envs.process.restarts import START_SECONDS, Budget
from envs.process.whole_files import write_whole
from envs.spec import BehaviorSpec, UserError
from trainer.cluster.channel import FarChannel
from trainer.cluster.checks import fragment_size
from trainer.cluster.hosts import Clock, Place, Starter, merged
from trainer.cluster.logs import write_log
from trainer.cluster.messages import Message, Part, read_episodes, read_game_statistics, read_statistics
from trainer.cluster.relay import HostSetup
from trainer.cluster.stream import SECRET_BYTES, Listener, Stream, Way
from trainer.config.schema import TrainConfig, Transport
from trainer.runtime.collector_host import PLAYERS, REPORT_SECONDS
from trainer.runtime.ipc import Shared

IN_FLIGHT = 2
"""Requests on their way to a host at once: while one reply travels, the next is filled."""
RESTARTS = 10
"""How many relays a place may lose at once; one more every ten minutes."""
UNHEARD_RESTARTS = 2
"""The same while no host has delivered anything yet: then restarts will hardly help."""


class Ingest:
    """Drives the collectors of all places, and answers the learner as `CollectorHost` does."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        shared: Shared,
        send: Callable[..., None],
        crowded: Callable[[], bool],
        make_starter: MakeStarter,
    ) -> None:
        self.channels: dict[str, FarChannel] = {}
        self.selector = selectors.DefaultSelector()
        """What a turn waits for: the data are functions to call."""
        self._config, self._folder, self._shared, self._send, self._crowded = config, folder, shared, send, crowded
        self._cluster, self._instances = config.cluster, config.env.instances
        self.places = [Place(number) for number in range(self._cluster.collectors)]
        self._budget, self._clock = Budget(RESTARTS, len(self.places), 1), Clock()
        self._keys, self._together = 0, False
        self._reported = 0.0
        self._picture: tuple[Path, int] | None = None
        self._acting: dict[str, str] = {}
        self._queue: list[tuple[str, Any]] = []
        """What is to be reported besides, by kind."""
        self._secret = token_bytes(SECRET_BYTES)
        self._starter, address = make_starter(config, self.selector)
        self._listener = Listener(address, self._secret, self.selector, self._admit)

    def turn(self, seconds: float) -> None:
        """Starts what is missing, asks hosts for rows, and takes what comes within `seconds`."""
        now = self._clock.now()
        self._start_missing()
        for key, what, content in self._starter.news():
            self._hear(key, what, content)
        self._watch(now)
        self._ask()
        dispatch(self.selector, seconds)
        self._report()

    @property
    def throttled(self) -> bool:
        """Whether games wait for the learner."""
        return any(each.rate_limiter is not None and not each.may_pull() for each in self.channels.values())

    def may_update(self) -> bool:
        """Returns whether an update is due."""
        return any(channel.may_update() for channel in self.channels.values())

    def handle(self, kind: str, behavior: str, content: Any) -> None:
        """Answers a request of the learner."""
        if kind == "ready":
            self.channels[behavior].rate_limiter = content
        elif kind == "lessons":
            for place in self.places:
                place.controls["lessons"] = list(self._shared.lessons.row)
        elif kind == "picture":
            self._ask_for_picture(content)
        elif kind == "report":
            self._report(at_once=True)
            self._send("reported")

    def report_events(self) -> None:
        """Sends the learner what has happened on hosts."""
        queue, self._queue = self._queue, []
        for kind, content in queue:
            self._send(kind, content=content)

    def close(self) -> None:
        """Ends all collectors."""
        for place in self.places:
            if place.way is not None:
                with contextlib.suppress(OSError):
                    place.way.send(Message({"stop": True}))
        self._listener.close()
        self._starter.close()
        for place in self.places:
            place.vacate()
        self.selector.close()

    def _start_missing(self) -> None:
        now = time.monotonic()
        for place in self.places:
            if place.key is None and not place.retired and now >= place.start_at:
                self._keys += 1
                place.key, place.started = self._keys, self._clock.now()
                sequence = (self._config.seed, place.number, self._keys, self._shared.samples)
                high, low = np.random.SeedSequence(sequence).generate_state(2).tolist()
                setup = HostSetup(
                    key=place.key,
                    config=self._config,
                    seed=(high << 32 | low) >> 1,
                    begun=self._shared.begun[self._games_of(place)].tolist(),
                    lessons=self._shared.lessons,
                    fragment_rows=fragment_size(self._config),
                    address=self._listener.address,
                    secret=self._secret,
                )
                self._starter.start(setup)

    def _games_of(self, place: Place) -> slice:
        return slice(place.number * self._instances, (place.number + 1) * self._instances)

    def _place(self, key: object) -> Place | None:
        return next((place for place in self.places if place.key is not None and place.key == key), None)

    def _hear(self, key: int, what: str, content: str | Way) -> None:
        """Takes what the starter says of a relay."""
        place = self._place(key)
        if place is None:  # of one that was given up
            return
        if what == "placed":
            place.placed, place.host, place.started = True, str(content), self._clock.now()
        elif what == "refused":
            self._refuse(place, str(content))
        elif what == "way" and not isinstance(content, str):
            self._join(place, content)
        else:
            self._lose(place, str(content))

    def _admit(self, greeting: dict[str, Any], stream: Stream) -> None:
        """Takes a relay that has connected."""
        place = self._place(greeting.get("key"))
        if place is None or place.way is not None or self._cluster.transport is Transport.ray:
            stream.close()
            return
        place.host = str(greeting.get("host") or place.host)[:100]
        self._join(place, stream)
        if greeting.get("refusal"):
            self._refuse(place, str(greeting["refusal"]))

    def _join(self, place: Place, way: Way) -> None:
        if place.way is not None:
            way.close()
            return
        place.way, place.heard = way, self._clock.now()
        self.selector.register(way.socket, selectors.EVENT_READ, lambda: self._receive(place, way))

    def _register(self, place: Place, way: Way) -> None:
        """Lets the selector tell when there is room again for what waits to be sent."""
        if place.way is way:
            key = self.selector.get_key(way.socket)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if way.unsent else 0)
            if key.events != events:
                self.selector.modify(way.socket, events, key.data)

    def _receive(self, place: Place, way: Way) -> None:
        if place.way is not way:
            return
        try:
            while place.way is way and (reply := way.receive()) is not None:
                self._take(place, reply)
                self._ask_one(place)
            self._register(place, way)
        except (OSError, EOFError) as error:
            self._lose(place, f"its connection has ended ({error})")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self._lose(place, f"it has sent what is none of its messages: {error}")

    def _take(self, place: Place, reply: Message) -> None:
        content = reply.content
        place.heard = self._clock.now()
        place.in_flight -= 1
        if place.in_flight < 0:
            raise ValueError("an answer without a request")
        begun = np.asarray(content["begun"], np.int64)
        counted = self._shared.begun[self._games_of(place)]
        counted[:] = np.maximum(counted, begun)
        place.open = {str(name): int(steps) for name, steps in content["open"].items()}
        for part in reply.parts:
            self._take_part(place, part)
        for name, channel in self.channels.items():
            channel.count_open(sum(each.open.get(name, 0) for each in self.places))
        for kind, behavior, said in content["messages"]:
            self._take_message(place, str(kind), str(behavior), said)
            if place.way is None:  # it was refused
                return

    def _take_part(self, place: Place, part: Part) -> None:
        if part.kind == "rows":
            if part.name not in place.opened:
                raise ValueError(f"rows of {part.name!r}, which nobody asked for")
            place.begun = True
            if lost := self.channels[part.name].add(place.number, part):
                self._tell("fault", place, f"{lost:,} rows were lost on their way.")
        elif part.kind == "log":
            write_log(self._folder / PLAYERS / f"collector-{place.number}", part.name, part.data)
        elif part.kind == "picture" and self._picture is not None and self._picture[1] == place.key:
            (file, _), self._picture = self._picture, None
            with contextlib.suppress(OSError):
                write_whole(file, bytes(part.data))
                self._queue.append(("picture", file))

    def _take_message(self, place: Place, kind: str, behavior: str, said: Any) -> None:
        first = place.number * self._instances
        if kind == "spec":
            self._add_behavior(place, BehaviorSpec.from_dict(said))
        elif kind == "episodes":
            self.channels[behavior].episodes += read_episodes(said, first, self._shared.samples)
        elif kind == "statistics":
            place.figures = read_statistics(said, self._instances).after(place.before)
        elif kind == "game":
            self._queue.append(("game", read_game_statistics(said)))
        elif kind == "acting":
            self._note_acting(behavior, str(said))
        elif kind == "events":
            self._tell(str(said[0]), place, str(said[2]), first + int(said[1]))
        elif kind == "lost":
            self._tell("fault", place, str(said))
        elif kind == "refused":
            self._refuse(place, str(said))
        elif kind == "failed":
            self._lose(place, str(said))
        else:
            raise ValueError(f"a message of the kind {kind!r}")

    def _add_behavior(self, place: Place, spec: BehaviorSpec) -> None:
        channel = self.channels.get(spec.name)
        try:
            if channel is None:
                channel = FarChannel(spec, self._config, self._shared, self._shared.claim(spec.name))
                self.channels[spec.name] = channel
                self._send("spec", spec.name, (spec, channel.place))
            elif difference := spec.difference(channel.spec):
                raise UserError(f"behavior {spec.name!r} is not that of the other hosts: it has {difference}")
        except UserError as error:
            self._refuse(place, str(error))
            return
        place.seen.add(spec.name)

    def _note_acting(self, behavior: str, said: str) -> None:
        if self._acting.get(behavior) != said:
            self._acting[behavior] = said
            self._send("acting", behavior, said)

    def _watch(self, now: float) -> None:
        """Gives up relays that have not been heard of for too long."""
        silent = self._cluster.silent_seconds
        for place in self.places:
            if place.way is not None and now > place.heard + silent:
                self._lose(place, f"nothing was heard of it for {silent:g} s")
            elif place.way is None and place.placed:
                patience = silent + self._config.env.step_timeout + START_SECONDS
                if now > place.started + patience:
                    self._lose(place, f"it did not connect within {patience:g} s")

    def _ask(self) -> None:
        if not self._together:
            ready = sum(bool(place.seen) for place in self.places)
            self._together = ready >= min(self._cluster.min_collectors, len(self.places))
        for place in self.places:
            self._ask_one(place)

    def _ask_one(self, place: Place) -> None:
        """Sends a host what it has to know, and asks for rows if the learner keeps up."""
        way = place.way
        if way is None:
            return
        stop = self._config.stop.samples
        acting = [name for name in place.seen if self.channels[name].rate_limiter is not None and self._together]
        going_on = stop is None or self._shared.samples < stop
        wanted = [name for name in acting if going_on and self.channels[name].may_pull()]
        while place.in_flight < IN_FLIGHT and (wanted or not place.in_flight):
            content: dict[str, Any] = {"rows": wanted, **place.controls}
            place.controls = {}
            if new := [self.channels[name].ready() for name in acting if name not in place.opened]:
                content["ready"] = new
                place.opened.update(name for name, _, _ in new)
            parts = []
            for name in acting:
                if (part := self.channels[name].weights(place.versions.get(name, 0))) is not None:
                    place.versions[name] = part.number
                    parts.append(part)
            try:
                way.send(Message(content, parts))
            except OSError as error:
                self._lose(place, f"its connection has ended ({error})")
                return
            place.in_flight += 1
            self._register(place, way)

    def _refuse(self, place: Place, why: str) -> None:
        """Leaves out a host that cannot play: the run ends by that, unless enough others do."""
        why = f"collector {place.number} on {place.host or 'its host'}: {why}"
        playing = sum(each.begun and not each.retired for each in self.places if each is not place)
        if playing < self._cluster.min_collectors:
            raise UserError(why)
        place.retired = True
        self._give_up(place)
        self._queue.append(("events", InstanceEvent("fault", place.number, f"Left out: {why}")))

    def _lose(self, place: Place, why: str) -> None:
        """Plans a new relay in place of one that has failed."""
        number, lost = place.number, sum(place.open.values())
        where = f"Collector {number} on {place.host or 'its host'} failed: {why.rstrip().rstrip('.')}."
        spent = self._budget.spend(number, time.monotonic())
        heard = any(each.begun for each in self.places)
        if spent is None or (not heard and spent[0] > UNHEARD_RESTARTS):
            others = sum(not each.retired for each in self.places) - 1
            if not heard or others < self._cluster.min_collectors:
                restarts = RESTARTS if heard else UNHEARD_RESTARTS
                raise UserError(f"{where} That is once more than {restarts} restarts allow")
            place.retired = True
            text = f"{where} It is left out; the other {others} go on."
        else:
            place.start_at = time.monotonic() + spent[1]
            text = f"{where} The open steps of {lost} agents are lost. Restart {spent[0]} of {RESTARTS} follows."
        self._give_up(place)
        self._queue.append(("events", InstanceEvent("fault", number, text)))

    def _give_up(self, place: Place) -> None:
        if place.way is not None:
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(place.way.socket)
        if place.key is not None:
            self._starter.end(place.key)
        place.vacate()
        for channel in self.channels.values():
            channel.writer.forget_source(place.number)

    def _ask_for_picture(self, file: Path) -> None:
        """Asks one host for a picture of play, the next one each time."""
        last = self._picture[1] if self._picture is not None else 0
        living = [place for place in self.places if place.way is not None and place.key is not None]
        if living:
            place = min(living, key=lambda each: ((each.key or 0) <= last, each.key or 0))
            self._picture = (file, place.key or 0)
            place.controls["picture"] = True

    def _tell(self, kind: str, place: Place, text: str, instance: int = 0) -> None:
        about = f"Collector {place.number} on {place.host}: {text}"
        self._queue.append(("events", InstanceEvent(kind, instance, about)))

    def _report(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and (now < self._reported + REPORT_SECONDS or self._crowded()):
            return
        self._reported = now
        self.report_events()
        for name, channel in self.channels.items():
            if channel.episodes:
                self._send("episodes", name, channel.episodes)
                channel.episodes = []
        if any(place.figures.elapsed for place in self.places):
            self._send("statistics", content=merged(self.places, self._instances))


MakeStarter = Callable[[TrainConfig, selectors.BaseSelector], tuple[Starter, str]]
"""Returns what starts relays, and the address of this host by which they connect."""
