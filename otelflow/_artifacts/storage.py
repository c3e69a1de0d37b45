"""Write stored artifacts: to a local folder directly, to everything else through fsspec."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from otelflow._secrets.urls import url_without_credentials

__all__ = ["Storage", "StorageUnavailable", "public_url", "storage_for"]


class StorageUnavailable(Exception):
    """The URL names an unknown file system, or a library is not installed. The text names the extra to install."""


class Storage(Protocol):
    """A place for files. Both methods may take long and raise anything.

    ``open`` is called first, once. If it raises, the storage is not used.
    """

    def open(self) -> None: ...

    def put(self, path: str, data: bytes) -> None: ...


def storage_for(url: str) -> Storage:
    """Return the storage for a URL or a path. Raises :class:`StorageUnavailable`."""
    if "://" not in url:
        return _LocalFolder(Path(url).absolute())
    if url.startswith("file://"):
        return _LocalFolder(Path(unquote(urlsplit(url).path)))
    if find_spec("fsspec") is None:
        raise StorageUnavailable("fsspec is not installed: pip install 'otelflow[artifacts]'")
    return _FsspecStorage(url)


def public_url(url: str) -> str:
    """Return the URL without a user name and password."""
    if "://" not in url:
        return Path(url).absolute().as_uri()
    return url_without_credentials(url.rstrip("/"), keep_query=True)


class _LocalFolder:
    """A local folder. Only the owner can read its files (0600) and folders (0700); each file is written atomically."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self) -> None:
        pass

    def put(self, path: str, data: bytes) -> None:
        target = self._root / path
        with suppress(OSError):
            if target.stat().st_size == len(data):  # the name is the content's digest: it is the same file
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
    """Create the folder and its parents, all with mode 0700. ``Path.mkdir(parents=True)`` sets it for the last only."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


_OBJECT_STORES = {"s3", "gs", "gcs", "abfs", "az", "oci", "oss"}
"""Object stores: ``makedirs`` would request the bucket, and create it if it is missing."""


class _FsspecStorage:
    """A file system of fsspec. The store's thread loads it, as that may take seconds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._files: Any = None
        self._root = ""

    def put(self, path: str, data: bytes) -> None:
        target = f"{self._root.rstrip('/')}/{path}"
        if not _OBJECT_STORES & set(self._files.protocol):
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(target, data)

    def open(self) -> None:
        from fsspec.core import url_to_fs

        try:
            self._files, self._root = url_to_fs(self._url)
        except (ImportError, ValueError) as error:  # for example s3fs is not installed, or the scheme is unknown
            raise StorageUnavailable(str(error)) from error
