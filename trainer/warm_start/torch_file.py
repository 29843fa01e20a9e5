"""Reads the tensors of a file that `torch.save` wrote, without running anything that it names.

Such a file is a ZIP archive of a pickle, which says how tensors are made of the other members. The pickle is read by
Python's own reader, to which a few names alone mean something, and these are functions of this file: nothing is
imported, and no code runs that somebody else wrote. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from envs.spec import Array, UserError

MOST_BYTES = 2**32
"""The size of a file."""
MOST_PICKLE = 2**24
"""That of its pickle: a megabyte is many networks."""
MOST_AXES = 8


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_tensors(file: Path, module: str) -> dict[str, Array]:
    """Returns the tensors of the dict that a file holds as `module`, by name.

    Raises UserError if the file cannot be read, is another kind of file, or holds no such dict.
    """
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            pickled = [name for name in members if name.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise ValueError("it holds no tensors of torch")
            folder = pickled[0][: -len("data.pkl")]
            content = _Reader(io.BytesIO(_member(archive, members, pickled[0], MOST_PICKLE))).load()
            if not isinstance(content, dict) or not isinstance(content.get(module), dict):
                raise ValueError(f"it holds no {module!r}")
            found = {name: each for name, each in content[module].items() if isinstance(each, _Tensor)}
            if sum(prod(each.shape) for each in found.values()) > size:
                raise ValueError("its tensors are larger than the file")
            return {str(name): _array(archive, members, folder, each) for name, each in found.items()}
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
    except RecursionError as error:
        raise UserError(f"{file} is no checkpoint of ML-Agents: it is nested too deeply") from error
    except Exception as error:  # whatever somebody has written there
        raise UserError(f"{file} is no checkpoint of ML-Agents: {' '.join(str(error).split())[:200]}") from error


def _member(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, most: int) -> bytes:
    """Returns a member, which is stored as it is: none can be larger than the file."""
    member = members.get(name)
    if member is None:
        raise ValueError(f"{name} is missing")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > most:
        raise ValueError(f"{name} is compressed, or larger than {most:,} bytes")
    return archive.read(member)


def _array(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: str, tensor: _Tensor) -> Array:
    """Returns a copy of a tensor that is contiguous, as float32 or int64."""
    size, storage = prod(tensor.shape), tensor.storage
    strides = [prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
    if any(n > 1 and own != right for n, own, right in zip(tensor.shape, tensor.stride, strides)):
        raise ValueError("it holds a tensor that is not contiguous")
    raw = _member(archive, members, f"{folder}data/{storage.key}", MOST_BYTES)
    values = np.frombuffer(raw, storage.dtype, count=len(raw) // np.dtype(storage.dtype).itemsize)
    if tensor.offset < 0 or tensor.offset + size > len(values):
        raise ValueError("it holds a tensor that is longer than what it was made of")
    kind = np.float32 if values.dtype.kind == "f" else np.int64
    return values[tensor.offset : tensor.offset + size].reshape(tensor.shape).astype(kind)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise TypeError("it holds a tensor without numbers")
    shape, stride = (tuple(int(n) for n in each) for each in (shape, stride))
    if len(shape) > MOST_AXES or len(shape) != len(stride) or min(shape, default=0) < 0 or prod(shape) > MOST_BYTES:
        raise ValueError("it holds a tensor of an impossible shape")
    return _Tensor(storage, int(offset), shape, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


class _Named(dict[Any, Any]):
    """Stands for an OrderedDict, which torch gives attributes."""


_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}
_FUNCTIONS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Named,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


_OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.NONE, pickle.NEWTRUE),
    *(pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE),
    *(pickle.SHORT_BINUNICODE, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET, pickle.MEMOIZE, pickle.GLOBAL),
    *(pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID),
)
"""What torch writes. Others take memory for a number in the file, or are of no use for tensors."""


class _Reader(pickle._Unpickler):  # C's takes memory for a number in the file, too
    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name means here; ValueError for all that is not a tensor's."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in _FUNCTIONS:
            raise ValueError(f"it names {module}.{name}, which is no tensor")
        return _FUNCTIONS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Returns a tensor's numbers, of which the pickle says the kind and the member's name."""
        word, dtype, key, *_ = pid
        if word != "storage" or dtype not in _DTYPES.values():
            raise ValueError("it holds numbers of an unknown kind")
        return _Storage(str(key), dtype)
