"""Results as one JSON object per line, in a file that grows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """
    :param path: a file
    :return: the objects in it, without lines that were only half written when a program was killed
    :raises ValueError: when it holds something else
    """
    objects = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        if not line.startswith("{"):
            raise ValueError(f"Line {number} of {path} is {line[:20]!r}, not a JSON object: name a file of results.")
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"Line {number} of {path} is only half written, and left out.", file=sys.stderr)
    return objects


def append(path: Path, result: dict[str, Any]) -> None:
    """
    Write one more, on a line of its own also behind one that is only half written.

    :param path: a file; it need not be there
    :param result: what to write
    """
    text = path.read_text() if path.exists() else ""
    with path.open("a") as file:
        file.write(("" if text == "" or text.endswith("\n") else "\n") + json.dumps(result) + "\n")


def significant(value: float) -> float:
    """
    :param value: a number
    :return: the same with as many digits as single precision has: returns may be small in some environments
    """
    return float(f"{value:.7g}")
