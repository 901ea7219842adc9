"""Checks that several constructors share."""

from __future__ import annotations

from typing import Any

import numpy as np


def positive_int(name: str, value: Any, unit: str) -> int:
    """
    Check an argument that counts something.

    >>> positive_int("buffer_size", 1e3, "episodes")
    1000

    :param name: the argument's name, for the message
    :param value: what was given
    :param unit: what it counts, for the message
    :return: the value; whole numbers may be given as floats, as ``1e3`` is
    :raises ValueError: when it is not a whole number of at least 1
    """
    if not (isinstance(value, (int, float, np.number)) and value >= 1 and float(value).is_integer()):
        raise ValueError(f"{name}={value}: use a whole number of {unit}, at least one.")
    return int(value)
