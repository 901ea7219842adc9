"""Files that are either whole or not there."""

from __future__ import annotations

import io
import os
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def write_whole(path: str | pathlib.Path | io.BufferedIOBase, suffix: str) -> Iterator[io.BufferedIOBase]:
    """
    Open a file for writing that appears under its name only when all of it is written.

    :param path: path (folders are created), or an open file, which is used as it is
    :param suffix: added to a path that has none
    :return: the file to write to
    """
    if not isinstance(path, (str, pathlib.Path)):
        yield path
        return
    target = pathlib.Path(path)
    if target.suffix == "":
        target = target.with_suffix(f".{suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since only within one file system a rename is all or nothing
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes it private
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
