"""Files that are either whole or not there."""

from __future__ import annotations

import io
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.save_util import load_from_pkl, open_path


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
    target = pathlib.Path(os.path.realpath(target))  # what a link points to is written, and the link stays
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


@contextmanager
def read_file(path: str | pathlib.Path | io.BufferedIOBase, suffix: str) -> Iterator[io.BufferedIOBase]:
    """
    Open a file for reading; an open one is left open, at the place where it was.

    :param path: path, or an open file
    :param suffix: tried for a path that has none, as SB3 does
    :return: the file
    """
    file = open_path(path, "r", suffix=suffix)
    if file is not path:
        with file:
            yield file
        return
    position = file.tell()
    try:
        yield file
    finally:
        file.seek(position)


def check_model_file(path: str | pathlib.Path | io.BufferedIOBase) -> None:
    """
    :param path: path to a saved model, or an open file
    :raises ValueError: when it is truncated, damaged, or something else
    """
    with read_file(path, "zip") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
                missing = {"data", "policy.pth"} - set(archive.namelist())
            reason = f"'{damaged}' in it is damaged" if damaged else f"it lacks {sorted(missing)}" if missing else None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:  # what zipfile raises
            reason = str(error)
    if reason is not None:
        raise ValueError(f"{path} is not a whole model file ({reason}): pass a file written by UDRL.save().")


def read_pickle(path: str | pathlib.Path | io.BufferedIOBase, verbose: int) -> Any:
    """
    :param path: path, or an open file
    :param verbose: SB3's verbosity level
    :return: what the file holds
    :raises ValueError: when it cannot be read
    """
    with read_file(path, "pkl") as file:
        try:
            return load_from_pkl(file, verbose)
        except Exception as error:  # a damaged pickle can raise anything
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {error}): "
                "pass a file written by UDRL.save_replay_buffer()."
            ) from error
