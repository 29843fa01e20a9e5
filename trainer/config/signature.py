"""The signature of a run's folder: it says that `config.yaml` holds settings of the user's own.

Settings name code: modules, wrappers, executables. A stranger's must not run unasked, so each run is signed with a key
that lies in the user's settings folder. Only `config.yaml` is signed, because nothing else in a run's folder names
code: checkpoints are arrays and JSON. No path is part of the signature, so a folder may be moved or copied.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
from pathlib import Path

from envs.process.user_folders import settings_folder
from envs.spec import UserError
from trainer.data_files import read_data

FILE = "signature"
"""Its name in a run's folder."""
_KEY_BYTES = 32
_MOST_BYTES = 1000
_log = logging.getLogger("outstep")


def sign(folder: Path, config: bytes) -> None:
    """Signs the run in `folder`, whose `config.yaml` has these bytes; makes the user's key if there is none.

    Where no key can be kept, a warning says what follows. Raises OSError if the folder cannot be written.
    """
    try:
        key = _key_or_new()
    except OSError as error:
        _log.warning(
            f"The run is not signed, as there is no key ({_reason(error)}). Commands that read its folder, such as "
            "evaluate and resume=, will need trust=true."
        )
        return
    (folder / FILE).write_text(f"{_signature(key, config)}\n", encoding="ascii")


def untrusted(folder: Path, config: bytes) -> UserError | None:
    """Returns the refusal of a run whose `config.yaml` has these bytes; None if the user has signed it."""
    if (reason := _why_unsigned(folder, config)) is None:
        return None
    return UserError(
        f"the run in {folder} is not known to be yours: {reason}. Its settings may start any program in your name. If "
        "you trust whoever made it, add trust=true"
    )


def key_file() -> Path:
    """Returns where the user's key lies. OSError if there is no home."""
    return settings_folder() / "key"


def _why_unsigned(folder: Path, config: bytes) -> str | None:
    try:
        found = read_data(folder / FILE, _MOST_BYTES).decode("ascii").strip()
    except (OSError, ValueError):
        return "it bears no signature, as it is from somebody else or from a version before signatures"
    try:
        key = _read(key_file())
    except OSError as error:
        return f"its signature cannot be checked ({_reason(error)})"
    if hmac.compare_digest(found, _signature(key, config)):
        return None
    return "its signature is of another key, or its config.yaml was changed since it was signed"


def _key_or_new() -> bytes:
    """Returns the user's key, which is made if there is none; OSError if that cannot be."""
    file = key_file()
    try:
        return _read(file)
    except FileNotFoundError:
        _make(file)
        return _read(file)


def _make(file: Path) -> None:
    """Makes a key, unless another process was first: it is there as a whole, or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=file.parent)  # only for this user
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(secrets.token_bytes(_KEY_BYTES))
            opened.flush()
            os.fsync(handle)
        try:
            os.link(aside, file)  # where a rename would replace what another process has made
        except FileExistsError:
            pass
        except OSError:  # not every file system has hard links
            if not file.exists():
                os.rename(aside, file)
    finally:
        Path(aside).unlink(missing_ok=True)


def _read(file: Path) -> bytes:
    """Returns the key in a file that nobody else can read; an OSError otherwise."""
    try:
        key = read_data(file, _KEY_BYTES)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise OSError(f"{file} is not a key: remove it, and a new one is made")
    if os.name == "posix":
        found = file.stat()
        if found.st_uid != os.geteuid():
            raise OSError(f"{file} belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise OSError(f"{file} can be read or written by others: chmod 600 {file}, or remove it if they may have")
    return key


def _signature(key: bytes, config: bytes) -> str:
    return hmac.new(key, b"outstep: config.yaml of a run\n" + config, hashlib.sha256).hexdigest()


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.strerror else str(error)
