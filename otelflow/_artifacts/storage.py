"""Where stored artifacts are written: a local folder by ourselves, everything else by fsspec."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from otelflow._secrets.urls import url_without_credentials

__all__ = ["Missing", "Place", "place_of", "shown"]


class Missing(Exception):
    """There is no such file system, or a library is not installed; the text says which extra has it."""


class Place(Protocol):
    """Somewhere to put files. Both may take long and raise anything; what ``open``, the first call, raises is final."""

    def open(self) -> None: ...

    def put(self, path: str, data: bytes) -> None: ...


def place_of(url: str) -> Place:
    """The place that a URL, or a path, names. Raises :class:`Missing`."""
    if "://" not in url:
        return _Folder(Path(url).absolute())
    if url.startswith("file://"):
        return _Folder(Path(unquote(urlsplit(url).path)))
    if find_spec("fsspec") is None:
        raise Missing("it needs fsspec: pip install 'otelflow[artifacts]'")
    return _FileSystem(url)


def shown(url: str) -> str:
    """The URL as it may be seen: without a user's name and password."""
    if "://" not in url:
        return Path(url).absolute().as_uri()
    return url_without_credentials(url.rstrip("/"), keep_query=True)


class _Folder:
    """Files of the owner's alone (0600) in folders of the owner's alone (0700), each there whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> None:
        pass

    def put(self, path: str, data: bytes) -> None:
        target = self._root / path
        with suppress(OSError):
            if target.stat().st_size == len(data):  # named by its content, so it is this
                return
        _make_folder(target.parent)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _make_folder(folder: Path) -> None:
    """``Path.mkdir(parents=True)`` gives its mode to the last folder only."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


_WITHOUT_FOLDERS = {"s3", "gs", "gcs", "abfs", "az", "oci", "oss"}
"""Object stores: to make a folder there is to ask for the bucket, and to make it where it is missing."""


class _FileSystem:
    """A file system of fsspec's. Loaded on the thread that puts files: that may take seconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._files: Any = None
        self._root = ""

    def put(self, path: str, data: bytes) -> None:
        target = f"{self._root.rstrip('/')}/{path}"
        if not _WITHOUT_FOLDERS & set(self._files.protocol):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(target, data)

    def open(self) -> None:
        from fsspec.core import url_to_fs

        try:
            self._files, self._root = url_to_fs(self._url)
        except (ImportError, ValueError) as error:  # s3fs is not installed; there is no such scheme
            raise Missing(str(error)) from error
