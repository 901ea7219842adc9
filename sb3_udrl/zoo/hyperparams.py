"""
Where the configuration files are, and our own as a Python module.

The stock commands take this module's name: ``python -m rl_zoo3.train --conf-file sb3_udrl.zoo.hyperparams ...``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent
# In an installed package inside of it, in a checkout beside it
_FOLDERS = (_PACKAGE / "hyperparams", _PACKAGE.parent / "hyperparams")


def config_file(name: str = "udrl") -> Path:
    """
    :param name: a configuration that comes with this package, with or without ``.yml``
    :return: its path
    :raises FileNotFoundError: when there is none of that name, with those there are
    """
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    path = folder / f"{name.removesuffix('.yml')}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yml")))
        raise FileNotFoundError(f"There is no configuration {name!r}: use one of {known}, or the path of your own.")
    return path


def __getattr__(name: str) -> Any:
    # Read anew each time, because the Zoo empties what it is given
    if name == "hyperparams":
        import yaml  # comes with the Zoo

        return yaml.safe_load(config_file().read_text())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
