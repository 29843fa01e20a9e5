"""The scripted faults of our player: what a test of a trainer needs to go wrong."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from envs.spec import UserError
from envs.unity.python_player.channels import statistics
from envs.unity.python_player.options import At, Options

DIED = 3
"""Exit status of a player whose fault is to die."""
_CLOSE = 400


def claimed_fault(options: Options) -> At | None:
    """Returns the fault that this player is to have; with `once`, only the first player that comes for it has it."""
    if options.fault and options.once:
        try:
            with open(options.once, "x"):
                pass
        except FileExistsError:
            return None
        except OSError as error:
            raise UserError(f"once={options.once}: this file cannot be made ({error}).") from error
    return options.fault


def spoiled(fault: At, message: Any, number: int) -> bytes:
    """Returns the bytes of message `number`, with its fault; does not return where that is to die or to hang."""
    what, first = fault
    if number == first:
        if what in ("die", "hang"):
            _stop(what)
        if what == "garbage":
            return b"\xff" * 64
        if what == "quit":
            message.Clear()
            message.header.status = _CLOSE
        if what == "nan":
            _spoil_numbers(_infos(message)[0])
        if what in _FLOODS:
            _FLOODS[what](message.unity_output)
    if what == "spec" and number >= first:
        for info in _infos(message):
            _lengthen(info.observations[0])
    return bytes(message.SerializeToString())


def stop_before_connecting(fault: At | None) -> None:
    """Dies or hangs if the fault is to do so at message 0."""
    if fault and fault.message == 0:
        _stop(fault.what)


def _stop(what: str) -> None:
    print(f"The scripted fault: {what}.", flush=True)
    if what == "die":
        os._exit(DIED)
    while True:
        time.sleep(3600)


def _infos(message: Any) -> list[Any]:
    return [info for infos in message.unity_output.rl_output.agentInfos.values() for info in infos.value]


def _spoil_numbers(info: Any) -> None:
    """Makes the first observation of numbers NaN; the reward if all are pictures."""
    for observation in info.observations:
        if observation.HasField("float_data"):
            count = len(observation.float_data.data) // 4
            observation.float_data.data = np.full(count, np.nan, np.float32).tobytes()
            return
    info.reward = float("nan")


def _send_agents(output: Any) -> None:
    for infos in output.rl_output.agentInfos.values():
        infos.value.extend(list(infos.value[:1]) * 200_000)


def _send_behaviors(output: Any) -> None:
    for number in range(300):
        output.rl_initialization_output.brain_parameters.add(brain_name=f"Made up {number}")


def _send_statistics(output: Any) -> None:
    output.rl_output.side_channel = statistics({"made up": 1.0}) * 50_000


_FLOODS = {"agents": _send_agents, "behaviors": _send_behaviors, "statistics": _send_statistics}


def _lengthen(observation: Any) -> None:
    """Adds one entry along the first axis."""
    length = observation.shape[0]
    observation.shape[0] = length + 1
    if observation.HasField("float_data"):
        data = observation.float_data.data
        observation.float_data.data = data + bytes(len(data) // length)
