"""Builds of a registry: ML-Agents' own, or a file of the user's.

Each is downloaded once, and unpacked to where only this user may write.

A registry is a YAML file, as ML-Agents reads it, with a SHA-256 besides where its author gives one:

    environments:
      - Basic:
          linux_url: https://example.org/basic.zip
          linux_sha256: 5d41402abc4b2a76b9719d911017c592…
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

import yaml

from envs.process.user_folders import cache_folder
from envs.spec import UserError

MLAGENTS_REGISTRY = "https://storage.googleapis.com/mlagents-test-environments/1.0.0/manifest.yaml"
MOST_ARCHIVE_BYTES = 4 * 2**30
MOST_UNPACKED_BYTES = 16 * 2**30
MOST_RATIO = 50
"""Unpacked bytes for each of the archive. Builds have 2 to 5; more than 1,000 are possible."""
MOST_FILES = 100_000


class Entry(NamedTuple):
    """A build of a registry for this system."""

    url: str
    sha256: str | None
    arguments: tuple[str, ...]


def find_entry(name: str, manifest: str | None) -> Entry:
    """Returns the build `name` of ML-Agents' registry, or of the file `manifest`.

    Raises:
        UserError: the registry cannot be read, or has no such build for this system.
    """
    what = "ML-Agents' registry" if manifest is None else f"env.manifest={manifest}"
    if manifest is not None and not Path(manifest).is_file():
        raise UserError(f"{what}: there is no such file")
    try:
        with _open(MLAGENTS_REGISTRY) if manifest is None else open(manifest, "rb") as file:
            data = file.read(_MOST_REGISTRY_BYTES + 1)
        if len(data) > _MOST_REGISTRY_BYTES:
            raise ValueError(f"it has more than {_MOST_REGISTRY_BYTES:,} bytes")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(data)):
            raise ValueError("it has aliases (*name), by which a short file can stand for an endless one")
        listed = yaml.safe_load(data)["environments"]
        entries = {str(key): value for each in listed for key, value in each.items()}
    except Exception as error:  # as below
        raise UserError(f"{what} cannot be read: {' '.join(str(error).split())[:500]}") from error
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none at all"
        raise UserError(f"env.registry={name}: there is no such entry, but {known}")
    entry = entries[name] if isinstance(entries[name], Mapping) else {}
    system = {"linux": "linux", "darwin": "darwin", "win32": "win"}.get(sys.platform, sys.platform)
    url, digest, arguments = (entry.get(key) for key in (f"{system}_url", f"{system}_sha256", "additional_args"))
    if not isinstance(url, str) or not url:
        raise UserError(f"env.registry={name}: the registry has no build of it for {sys.platform}")
    if digest is not None and not re.fullmatch("[0-9a-fA-F]{64}", str(digest)):
        raise UserError(f"env.registry={name}: {system}_sha256={digest} must be 64 hexadecimal digits")
    if not isinstance(arguments or [], list):
        raise UserError(f"env.registry={name}: additional_args={arguments} must be a list")
    return Entry(url, str(digest).lower() if digest else None, tuple(map(str, arguments or ())))


def fetch_build(name: str, entry: Entry) -> Path:
    """Returns the folder to which a build is unpacked; it is downloaded if it was not yet.

    Raises:
        UserError: it cannot be downloaded, is not what the registry says, or must not be unpacked.
    """
    cache = _cache()
    # By what was asked for: another address, or another checksum, is another build.
    key = hashlib.sha256(f"{entry.url}\n{entry.sha256}".encode()).hexdigest()[:32]
    folder = cache / key
    if folder.is_dir():
        return folder
    print(f"Downloading {name} from {entry.url} to {folder}", file=sys.stderr, flush=True)
    aside = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
    try:
        archive = aside / "build.zip"
        digest = _download(entry.url, archive)
        if entry.sha256 is not None and digest != entry.sha256:
            raise UserError(
                f"env.registry={name}: {entry.url} has the SHA-256 {digest}, and the registry says {entry.sha256}: "
                "it is not the build that the registry means, and was thrown away"
            )
        _unpack(archive, aside / "build")
        (aside / "build" / "SHA256").write_text(f"{digest}  {entry.url}\n")
        with contextlib.suppress(OSError):  # another run was faster
            (aside / "build").replace(folder)
        if entry.sha256 is None:
            print(f"Its SHA-256, which the registry does not say, is {digest}", file=sys.stderr, flush=True)
    except UserError:
        raise
    except Exception as error:  # an archive of others, and the network, raise many kinds
        raise UserError(f"env.registry={name}: {entry.url} cannot be downloaded: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _cache() -> Path:
    """Returns the folder of all builds, made if it is not there; UserError if others may write to it."""
    try:
        folder = cache_folder() / "builds"
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_own(folder.parent)
        _check_own(folder)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.strerror else str(error)
        raise UserError(f"the folder for builds cannot be made ({why}): set XDG_CACHE_HOME") from error
    return folder


def _check_own(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{folder}, for builds, must be a folder, and no link to one")
    if os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        mode = stat.S_IMODE(found.st_mode)
        raise UserError(
            f"{folder}, for builds, belongs to user {found.st_uid} and has mode {mode:04o}: what is in it is run, so "
            f"it must be yours (user {os.getuid()}) and of mode 0700: look at what is in it, then remove it"
        )


class _OnlyHttps(HTTPRedirectHandler):
    def redirect_request(self, req: Request, *arguments: Any) -> Request | None:
        request = super().redirect_request(req, *arguments)
        if request is not None:
            _check_https(request.full_url)
        return request


def _check_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise ValueError(f"{url[:200]} is neither https nor a local file: others could change what it sends")


def _open(url: str) -> IO[bytes]:
    """Opens what is at an https address, or a local file: a path, or `file:`."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return open(url2pathname(parts.path), "rb")
    if not parts.scheme or Path(url).is_absolute():
        return open(url, "rb")
    _check_https(url)
    try:
        opened: IO[bytes] = build_opener(_OnlyHttps).open(url, timeout=_TIMEOUT_SECONDS)
    except URLError as error:
        raise OSError(str(error.reason)) from error
    return opened


def _download(url: str, to: Path) -> str:
    """Writes what is at a URL to a file; returns its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with _open(url) as source, to.open("wb") as file:
        while chunk := source.read(2**20):
            size += len(chunk)
            if size > MOST_ARCHIVE_BYTES:
                raise ValueError(f"it has more than {MOST_ARCHIVE_BYTES:,} bytes")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks a ZIP file; ValueError if it would take too much, or write or point to outside of `folder`."""
    most = min(MOST_UNPACKED_BYTES, MOST_RATIO * archive.stat().st_size + _FREE_BYTES)
    folder.mkdir()
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        size = sum(info.file_size for info in infos)
        if len(infos) > MOST_FILES:
            raise ValueError(f"it holds {len(infos):,} files, not at most {MOST_FILES:,}")
        if size > most:
            raise ValueError(
                f"it would unpack {size:,} bytes from {archive.stat().st_size:,}, and at most {most:,} are allowed"
            )
        for info in infos:
            parts = re.split(r"[/\\]", info.filename.rstrip("/\\"))
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{info.filename[:200]!r} in it is a link or a device, where only files are unpacked")
            if any(part in ("", "..") or ":" in part for part in parts):
                raise ValueError(f"{info.filename[:200]!r} in it would be written outside of its folder")
        for info in infos:
            # No more than is declared is read.
            path = Path(opened.extract(info, folder))
            path.chmod(0o700)


_TIMEOUT_SECONDS = 30.0
_MOST_REGISTRY_BYTES = 2**20
_FREE_BYTES = 10 * 2**20
"""So much a small archive may unpack at whatever ratio."""
