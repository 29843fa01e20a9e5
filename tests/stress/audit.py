"""Compares what a run has in its buffer with what the game that can be audited has recorded of itself.

Of each life the buffer may lack the steps behind some moment, and no others: the one that was open when its process
failed or the run ended, and those completed after the newest row of the last checkpoint. An agent's next step begins
only once its last one is in the buffer, so nothing else can be missing by rights. On a cluster, steps of a host's lives
wait there together until they are asked for: with the host go the newest of them, as many as may wait or be on their
way.

Shapes: R rows of the buffer, N recorded steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from buffers.rows import Layout, Rows
from buffers.snapshot import restore
from envs.spec import Array, BehaviorSpec, UserError
from tests.stress.witness import RECORD, SPOILED, TERMINATED, TRUNCATED, observation
from trainer.checkpoint import CheckpointStore

_SHOWN = 20
_OUT_OF_ORDER_SECONDS = 2.0
"""Steps of different games that were done within so long may have come to their host's block in another order."""


class Host(NamedTuple):
    """Lives whose steps wait together on one host until they are asked for."""

    lives: frozenset[int]
    window: int
    """How many steps may wait or be on their way, those that were open left out."""


@dataclass
class Audit:
    """What was found. All but the first six should be 0, if no process failed unasked."""

    rows: int
    """Steps in the buffer."""
    recorded: int
    """Steps that the game has completed."""
    open_when_failed: int
    """Agents in what failed: each had at most one row open."""
    lost: int
    """Completed steps that went with what failed."""
    after_the_end: int
    """Completed steps that the last checkpoint came too early for, those that were open then included."""
    behind: int = 0
    """Completed steps that were on a host, not asked for or on their way, when it was lost or the run ended."""
    failed_unasked: int = 0
    """Lives that ended by themselves while the run went on."""
    lost_beyond: int = 0
    """Completed steps that are missing, and were not open in what failed."""
    duplicates: int = 0
    """Rows of a step that the buffer holds already."""
    unknown: int = 0
    """Rows of steps that no game has recorded."""
    wrong: int = 0
    """Rows that hold something else than what the game saw, was told to do, and answered."""
    not_finite: int = 0
    """Rows with a number that is none, or of a step that returned one."""
    wrong_links: int = 0
    """Rows that are not linked to their agent's next row though it is there, or to another one."""
    unfinished: int = 0
    """Places that a writer which was killed has left empty: they are never drawn."""
    examples: list[str] = field(default_factory=list)
    """The first of what is not right, in words."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, made up or changed."""
        wrong = self.lost_beyond, self.duplicates, self.unknown, self.wrong, self.not_finite, self.wrong_links
        return not any(wrong)


def load_rows(run: Path) -> Rows:
    """The buffer of the one behavior in the last checkpoint of the run in `run`.

    Raises:
        UserError: there is none, or it no longer holds all rows.
    """
    checkpoint = CheckpointStore(run / "checkpoints").load_latest()
    ((name, saved),) = checkpoint.replay.items()
    layout = Layout(BehaviorSpec.from_dict(checkpoint.state["behaviors"][name]["spec"]))
    if (oldest := int(saved.index["oldest"])) > 1:
        raise UserError(f"the buffer's first {oldest - 1:,} rows are overwritten: raise algorithm.buffer_capacity")
    capacity = max(16, int(saved.index["head"]))
    rows = Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)
    restore(rows, saved.index, saved.chunks())
    return rows


def audit(
    rows: Rows, records: Mapping[int, Array], failed: Set[int], at_end: Set[int], hosts: Sequence[Host] = ()
) -> Audit:
    """Compares.

    Args:
        rows: the whole buffer, nothing of it overwritten.
        records: by life, (N,) of `RECORD` in their order.
        failed: lives that were made to fail.
        at_end: lives that were played when the run ended.
        hosts: those of a cluster, each with its lives; a host that is lost and comes again is another one.
    """
    found = Audit(0, sum(len(each) for each in records.values()), len(failed), 0, 0)
    held = _Held(rows)
    found.rows = len(held.keys)
    found.unfinished = held.unfinished
    _check_rows(found, held, records)
    on_hosts = frozenset[int]().union(*(host.lives for host in hosts))
    _check_links(found, held, on_hosts)
    newest = _newest_time(held, records)
    for life in records.keys() - on_hosts:
        _check_life(found, held, life, records[life], newest, newest, life in failed, life in at_end)
    for host in hosts:
        own = {life: records[life] for life in host.lives}
        delivered_until = _newest_time(held, own) - _OUT_OF_ORDER_SECONDS
        behind = 0
        for life, recorded in own.items():
            behind += _check_life(found, held, life, recorded, newest, delivered_until, life in failed, life in at_end)
        found.behind += behind
        if behind > host.window:
            found.lost_beyond += behind - host.window
            found.examples.append(f"lost: {behind} steps of the lives {sorted(own)}, not at most {host.window}")
    return found


def delivered(rows: Rows, records: Mapping[int, Array]) -> Array:
    """(N,) of `RECORD`: the recorded steps that are in the buffer."""
    recorded, of_all = _joined(records)
    there: Array = recorded[_Held(rows).holds(of_all)]
    return there


class _Held:
    """The rows of the buffer, in the order of their numbers, and by what they say they are."""

    def __init__(self, rows: Rows) -> None:
        slots = rows.slots(np.arange(1, rows.head + 1, dtype=np.int64))
        every = {name: column[slots] for name, column in rows.fields.items()}
        self.next: Array = every["next"]
        """(head,) by number - 1, as the next two."""
        self.final: Array = every["final"]
        # A writer that died leaves no whole observation, and perhaps numbers that are none.
        self.key_of: Array = _keys(*np.nan_to_num(every["observation_0"][:, :3]).astype(np.int64).T)
        self.numbers: Array = np.flatnonzero(~self.final) + 1
        """(R,) of the steps, as all that follow."""
        self.columns = {name: column[~self.final] for name, column in every.items()}
        self.keys: Array = self.key_of[~self.final]
        self._sorted: Array = np.sort(self.keys)
        linked = self.next[(self.next > 0) & ~self.final]
        self.unfinished = int(np.count_nonzero(self.final) - np.count_nonzero(self.final[linked - 1]))

    def holds(self, wanted: Array) -> Array:
        """Whether the steps with these keys are there."""
        places = np.minimum(np.searchsorted(self._sorted, wanted), max(0, len(self._sorted) - 1))
        there: Array = self._sorted[places] == wanted if len(self._sorted) else np.zeros(len(wanted), bool)
        return there


def _keys(life: Array, episode: Array, step: Array) -> Array:
    """One number for each step."""
    found: Array = (np.asarray(life, np.int64) << 40) | (np.asarray(episode, np.int64) << 16) | step
    return found


def _words(key: int) -> str:
    return f"life {key >> 40}, episode {key >> 16 & 0xFFFFFF}, step {key & 0xFFFF}"


def _check_rows(found: Audit, held: _Held, records: Mapping[int, Array]) -> None:
    """That each row is of one recorded step, once, and says what the game says."""
    distinct, counts = np.unique(held.keys, return_counts=True)
    found.duplicates = len(held.keys) - len(distinct)
    _tell(found, "there twice", distinct[counts > 1])
    recorded, of_all = _joined(records)
    order = np.argsort(of_all)
    places = np.minimum(np.searchsorted(of_all, held.keys, sorter=order), max(0, len(of_all) - 1))
    if not len(of_all):
        found.unknown = len(held.keys)
        return
    said = recorded[order[places]]
    known = of_all[order[places]] == held.keys
    found.unknown = int(np.count_nonzero(~known))
    _tell(found, "recorded by nobody", held.keys[~known])
    columns, seen = held.columns, held.columns["observation_0"]
    finite = np.isfinite(seen).all(axis=1) & np.isfinite(columns["reward"]) & np.isfinite(columns["log_prob"])
    finite &= ~(known & ((said["flags"] & SPOILED) != 0))
    found.not_finite = int(np.count_nonzero(~finite))
    _tell(found, "not finite", held.keys[~finite])
    right = (seen == observation(*_parts(held.keys))).all(axis=1)
    right &= (columns["discrete"][:, 0] == said["action"]) & (columns["reward"] == said["reward"])
    right &= columns["terminated"] == ((said["flags"] & TERMINATED) != 0)
    right &= columns["truncated"] == ((said["flags"] & TRUNCATED) != 0)
    wrong = known & finite & ~right
    found.wrong = int(np.count_nonzero(wrong))
    _tell(found, "not what the game says", held.keys[wrong])


def _check_links(found: Audit, held: _Held, on_hosts: frozenset[int]) -> None:
    """That each row leads to its agent's next one, to a last observation, to an end, or nowhere if none is there.

    The last observation of the newest step of a life on a host may have been lost with the host.
    """
    order = np.argsort(held.keys, kind="stable")
    after = held.keys + 1
    places = np.minimum(np.searchsorted(held.keys, after, sorter=order), max(0, len(order) - 1))
    if not len(order):
        return
    there = held.keys[order[places]] == after
    follower = np.where(there, held.numbers[order[places]], -1)
    link = held.next[held.numbers - 1]
    target = np.maximum(link, 1) - 1
    ends_well = (link > 0) & held.final[target] & (held.key_of[target] == after)
    life = held.keys >> 40
    newest = np.append(life[order][1:] != life[order][:-1], True)[np.argsort(order)]
    cut_off = newest & (link == -1) & np.isin(life, list(on_hosts))
    right = np.where(
        held.columns["terminated"],
        link == 0,
        np.where(
            held.columns["truncated"],
            ends_well | cut_off,
            # Of a step that was lost while it was written, the observation may be there, as the last one.
            np.where(ends_well & (follower < 0), True, link == follower),
        ),
    )
    found.wrong_links = int(np.count_nonzero(~right))
    _tell(found, "linked wrongly", held.keys[~right])


def _check_life(
    found: Audit,
    held: _Held,
    life: int,
    recorded: Array,
    newest: float,
    delivered_until: float,
    failed: bool,
    at_end: bool,
) -> int:
    """That what is missing of a life is the end of it, and may be: steps done after `delivered_until`, and an open one.

    Returns how many of these were done before the `newest` in the buffer, the open one left out.
    """
    found.failed_unasked += not failed and not at_end
    steps = _keys(np.int64(life), recorded["episode"], recorded["step"])
    missing = ~held.holds(steps)
    if not missing.any():
        return 0
    first = int(missing.argmax())
    allowed = missing & (recorded["time"] > delivered_until)
    allowed[first] = True
    allowed &= np.logical_and.accumulate(missing[::-1])[::-1]  # nothing behind it is there
    beyond = int(np.count_nonzero(missing & ~allowed))
    found.lost_beyond += beyond
    _tell(found, "lost", steps[missing & ~allowed])
    if allowed[first] and not at_end and recorded["time"][first] <= newest:
        found.lost += 1
    else:
        found.after_the_end += int(allowed[first])
    later = allowed[first + 1 :] & (recorded["time"][first + 1 :] > newest)
    found.after_the_end += int(np.count_nonzero(later))
    return int(np.count_nonzero(allowed[first + 1 :])) - int(np.count_nonzero(later))


def _newest_time(held: _Held, records: Mapping[int, Array]) -> float:
    """When the newest of the steps in the buffer was done; all that was in time for it was done before."""
    recorded, of_all = _joined(records)
    there = held.holds(of_all)
    return float(recorded["time"][there].max()) if there.any() else 0.0


def _joined(records: Mapping[int, Array]) -> tuple[Array, Array]:
    """(N,) of all lives, and their keys."""
    if not records:
        return np.zeros(0, RECORD), np.zeros(0, np.int64)
    parts = [_keys(np.int64(life), each["episode"], each["step"]) for life, each in records.items()]
    return np.concatenate(list(records.values())), np.concatenate(parts)


def _parts(key: Array) -> tuple[Array, Array, Array]:
    return key >> 40, key >> 16 & 0xFFFFFF, key & 0xFFFF


def _tell(found: Audit, what: str, steps: Array) -> None:
    room = _SHOWN - len(found.examples)
    found.examples += [f"{what}: {_words(int(key))}" for key in steps[: max(0, room)]]
