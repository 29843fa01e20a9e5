"""Which behaviors a run expects: the memory that is kept for them, and word of those that do not appear."""

from __future__ import annotations

from trainer.config.schema import DEFAULT_BEHAVIOR, TrainConfig, settings_of

SPARES = 8
"""Behaviors that may appear without being named."""
LATE_SECONDS = 60.0
"""After the first behavior, those that are configured and have not appeared are warned of."""
_MIB = 2**20


def buffer_sizes(config: TrainConfig) -> tuple[dict[str, int], int, int]:
    """For `Shared`: bytes by behavior of those that are known, and how many others there may be, of how many bytes.

    Raises:
        UserError: `behaviors` leaves out one that the environment is known to have.
    """
    if known := config.env.behaviors:
        return {name: _bytes(config, name) for name in known}, 0, 0
    named = {name: _bytes(config, name) for name in config.behaviors if name != DEFAULT_BEHAVIOR}
    if config.behaviors and DEFAULT_BEHAVIOR not in config.behaviors:
        return named, 0, 0
    return named, SPARES, _bytes(config, DEFAULT_BEHAVIOR)


class Behaviors:
    """The behaviors that are configured by name, and which have appeared."""

    def __init__(self, config: TrainConfig) -> None:
        self._names = [name for name in config.behaviors if name != DEFAULT_BEHAVIOR]
        self._first: float | None = None
        self._warned = False
        self.seen: list[str] = []
        """Behaviors that have appeared, in their order."""

    def appeared(self, name: str, now: float) -> None:
        """Notes that a behavior has appeared, at `now` seconds, perhaps again."""
        self._first = now if self._first is None else self._first
        if name not in self.seen:
            self.seen.append(name)

    def overdue(self, now: float) -> str | None:
        """Words for those that have not appeared in time: once."""
        if self._warned or self._first is None or now < self._first + LATE_SECONDS:
            return None
        self._warned = True
        return self._words(f"within {LATE_SECONDS:.0f} s of the first behavior")

    def never(self) -> str | None:
        """Words for those that have not appeared at all."""
        return self._words("in this run")

    def _words(self, when: str) -> str | None:
        missing = ", ".join(f"behaviors.{name}" for name in self._names if name not in self.seen)
        if not missing:
            return None
        return f"{missing} did not appear {when}; the game has {', '.join(map(repr, self.seen))}: is the name right?"


def _bytes(config: TrainConfig, behavior: str) -> int:
    settings, _ = settings_of(config, behavior)
    return settings.buffer_memory_mib * _MIB
