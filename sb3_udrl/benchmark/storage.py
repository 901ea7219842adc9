"""Where results are kept: a folder, or any store that fsspec reaches, such as ``s3://bucket/study``."""

from __future__ import annotations

import errno
import json
import posixpath
import uuid
from typing import Any

from fsspec.core import url_to_fs

PARTIAL = ".part"


class StoreError(OSError):
    """The store cannot be written to, or read; the message says why, and what to do."""


class Store:
    """
    Small files that are either whole or not there.

    :param url: a folder, or an address that fsspec knows
    :raises StoreError: when the address is none
    """

    def __init__(self, url: str) -> None:
        try:
            self.fs, self.root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StoreError(f"Results cannot go to {url!r}: {error}") from error
        is_local = "file" in self.fs.protocol
        # Workers may run in other folders
        self.url = self.root if is_local else url

    def check(self) -> None:
        """:raises StoreError: when nothing can be written"""
        probe = f"probe-{uuid.uuid4().hex}"  # another command may check the same store at the same time
        self.write(probe, b"x" * 100_000)  # a disk can be full for a result and still take a byte
        self.remove(probe)

    def write(self, path: str, data: bytes) -> None:
        """
        Write a file, so that it appears under its name only when all of it is there.

        :param path: inside the store
        :param data: its content
        :raises StoreError: when it cannot be written
        """
        target = self._full(path)
        try:
            self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
            self.fs.pipe_file(target + PARTIAL, data)
            self.fs.mv(target + PARTIAL, target)
        except Exception as error:  # each kind of store has its own
            self.remove(path + PARTIAL)
            raise StoreError(self._advice(f"{path} cannot be written to {self.url}", error)) from error

    def write_json(self, path: str, content: Any) -> None:
        """
        :param path: inside the store
        :param content: what JSON can hold
        :raises StoreError: when it cannot be written
        """
        self.write(path, json.dumps(content, separators=(",", ":")).encode())

    def read(self, path: str) -> bytes | None:
        """
        :param path: inside the store
        :return: the file's content; None if there is none
        :raises StoreError: when the store cannot be reached
        """
        try:
            return bytes(self.fs.cat_file(self._full(path)))
        except FileNotFoundError:
            return None
        except Exception as error:  # each kind of store has its own
            raise StoreError(self._advice(f"{path} cannot be read from {self.url}", error)) from error

    def read_json(self, path: str) -> Any | None:
        """
        :param path: inside the store
        :return: the file's content; None if there is none, or only a part of one
        """
        data = self.read(path)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def names(self, folder: str, suffix: str = ".json") -> list[str]:
        """
        :param folder: inside the store
        :param suffix: how the files' names end
        :return: the names of its files without the suffix, sorted
        :raises StoreError: when the store cannot be reached
        """
        self.fs.invalidate_cache()  # others write as well
        try:
            paths = self.fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise StoreError(self._advice(f"{folder} cannot be read from {self.url}", error)) from error
        files = (posixpath.basename(path) for path in paths)
        return sorted(name.removesuffix(suffix) for name in files if name.endswith(suffix))

    def remove(self, path: str) -> None:
        """
        Remove a file, if it is there and the store lets us.

        :param path: inside the store
        """
        try:
            self.fs.rm_file(self._full(path))
        except Exception:  # each kind of store has its own; what stays does no harm
            return

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _advice(self, problem: str, error: Exception) -> str:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"No space is left in {self.url}. Whatever is there is whole: free some space and run the same command "
                "again, it goes on from there."
            )
        return (
            f"{problem} ({type(error).__name__}: {error}). Check that it exists, can be reached from here, and lets "
            "you read and write; for s3:// see AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID."
        )
