"""What the time of a run went into."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

PHASES = ("acting", "environment", "training", "evaluation")


class Stopwatch:
    """Seconds by phase. One phase runs at a time, so that they add up to the whole."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._phase: str | None = None
        self._since = 0.0

    def switch(self, phase: str | None) -> str | None:
        """
        :param phase: what begins now; None for a break
        :return: what ends
        """
        now, ended = time.perf_counter(), self._phase
        if ended is not None:
            self.seconds[ended] += now - self._since
        self._phase, self._since = phase, now
        return ended

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """
        :param phase: what runs inside; afterwards what ran before goes on
        """
        interrupted = self.switch(phase)
        try:
            yield
        finally:
            self.switch(interrupted)

    def timed(self, phase: str, function: Callable[P, R]) -> Callable[P, R]:
        """
        :param phase: what each call counts as
        :param function: a function
        :return: the same function, timed
        """

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.during(phase):
                return function(*args, **kwargs)

        return call

    def learning_seconds(self) -> float:
        """:return: seconds so far of everything but evaluation"""
        self.switch(self._phase)
        return sum(seconds for phase, seconds in self.seconds.items() if phase != "evaluation")
