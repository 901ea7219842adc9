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


def check_numbers(or_none: bool = False, **arguments: Any) -> None:
    """
    Check that arguments are numbers, before they are compared with anything.

    :param or_none: whether they may also be None
    :param arguments: what was given, by name
    :raises ValueError: when one is something else, such as the text that YAML makes of 1e-3
    """
    for name, value in arguments.items():
        if not (isinstance(value, (int, float, np.number)) or (or_none and value is None)):
            raise ValueError(f"{name}={value!r} is not a number. (YAML takes 1e-3 for text: write !!float 1e-3.)")
