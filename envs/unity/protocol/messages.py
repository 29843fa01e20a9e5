"""The messages of the ML-Agents protocol, taken from mlagents-envs, on any current Python and protobuf.

The modules that mlagents-envs generated with an old protoc do not import with protobuf 4 or newer. The descriptors
inside them are good, so an import hook builds the modules from these instead; all of mlagents-envs works from then on.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import builder

API_VERSION = "1.5.0"
"""Of the protocol; the major numbers of both sides have to match."""
METHOD = "/communicator_objects.UnityToExternalProto/Exchange"
"""The one method, with one UnityMessageProto each way."""
CAPABILITIES = (
    "baseRLCapabilities",
    "concatenatedPngObservations",
    "compressedChannelMapping",
    "hybridActions",
    "variableLengthObservation",
)
"""What both our trainer and our player claim to be capable of."""

_PACKAGE = "mlagents_envs.communicator_objects"


def message(module: str, name: str) -> Any:
    """Returns a message class of mlagents-envs: `message("agent_info", "AgentInfoProto")`."""
    return getattr(importlib.import_module(f"{_PACKAGE}.{module}_pb2"), name)


@cache
def raw_class(name: str) -> Any:
    """Returns a message class, but that `FloatData.data` is bytes: packed little-endian float32, for `np.frombuffer`.

    On the wire the two are the same. Read so, an observation costs no Python float for each of its numbers.

    Args:
        name: UnityMessageProto, AgentInfoActionPairProto, or of what is in them.
    """
    return message_factory.GetMessageClass(_raw_pool().FindMessageTypeByName(f"communicator_objects.{name}"))


@cache
def _raw_pool() -> Any:
    pool, added = descriptor_pool.DescriptorPool(), set[str]()
    for module in ("unity_message", "agent_info_action_pair"):
        _add_raw(message(module, "DESCRIPTOR"), pool, added)
    return pool


def _add_raw(file: Any, pool: Any, added: set[str]) -> None:
    """Adds a file and all that it depends on to `pool`."""
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_raw(dependency, pool, added)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    for kind in proto.message_type:
        if kind.name == "ObservationProto":
            (data,) = kind.nested_type[0].field
            data.type, data.label = data.TYPE_BYTES, data.LABEL_OPTIONAL
    pool.Add(proto)


class _Finder(MetaPathFinder):
    """Finds the generated modules of mlagents-envs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not (fullname.startswith(f"{_PACKAGE}.") and fullname.endswith("_pb2")) or not path:
            return None
        file = Path(path[0]) / f"{fullname.rpartition('.')[2]}.py"
        return (
            importlib.util.spec_from_file_location(fullname, file, loader=_Generated(file)) if file.exists() else None
        )


class _Generated(Loader):
    """Makes a generated module from the serialized descriptor in its file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def exec_module(self, module: ModuleType) -> None:
        serialized = _descriptor_in(self._file)
        for dependency in descriptor_pb2.FileDescriptorProto.FromString(serialized).dependency:
            importlib.import_module(f"{dependency[: -len('.proto')].replace('/', '.')}_pb2")
        file = descriptor_pool.Default().AddSerializedFile(serialized)
        contents = vars(module)
        contents["DESCRIPTOR"] = file
        builder.BuildMessageAndEnumDescriptors(file, contents)
        builder.BuildTopDescriptorsAndMessages(file, module.__name__, contents)


def _descriptor_in(file: Path) -> bytes:
    """Returns the longest literal of a generated file: its serialized descriptor. Nothing of the file is executed."""
    literals = [n.value for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.Constant)]
    longest: str | bytes = max((value for value in literals if isinstance(value, (str, bytes))), key=len)
    return longest if isinstance(longest, bytes) else longest.encode("latin1")


sys.meta_path.insert(0, _Finder())
if "bool" not in vars(np):  # numpy before 2.0, where mlagents-envs 0.28 stumbles over it
    np.bool = np.bool_  # type: ignore[misc]
