"""A display of all runs: those that run, with how far they are, and those that wait, failed or finished."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from types import TracebackType

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from typing_extensions import Self

from sb3_udrl.benchmark.results import Results
from sb3_udrl.benchmark.runs import Run

REFRESH = 2.0  # seconds


class Display:
    """
    Reads from the store how far the runs are, so that it does not matter where they run.

    :param runs: all runs of the study
    :param skipped: why pairs of (environment, algorithm) have none
    :param results: where they put their results
    :param console: where to show it
    """

    def __init__(
        self, runs: list[Run], skipped: dict[tuple[str, str], str], results: Results, console: Console | None = None
    ) -> None:
        self.runs = runs
        self.skipped = skipped
        self.results = results
        self.console = Console() if console is None else console
        self.states: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._shown = 0  # finished runs that have had their line
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self.look()
        self._shown = sum(state == "finished" for state in self.states.values())
        already = f", {self._shown} of them finished already" if self._shown else ""
        self._say(f"{len(self.runs)} runs{already}; results go to {self.results.store.url}")
        for (env, algo), reason in self.skipped.items():
            self._say(f"skipped: {algo} on {env} ({reason})")
        if self.console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._update()
        self._live.stop()

    def _watch(self) -> None:
        while not self._stop.wait(REFRESH):
            self._update()

    def _update(self) -> None:
        """Show how far the runs are. A store that hiccups is no reason to stop; the next look may succeed."""
        with contextlib.suppress(Exception):
            self._show_changes()

    def _show_changes(self) -> None:
        before = dict(self.states)
        self.look()
        for run in self.runs:
            if self.states[run.name] != before[run.name] and self.states[run.name] in ("finished", "failed"):
                self._say(self._line(run))
        if self._live.is_started:
            self._live.update(self.table(), refresh=True)

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def look(self) -> None:
        """Find out where each run stands."""
        store = self.results.store
        finished, failed, running = (set(store.names(folder)) for folder in ("runs", "failures", "running"))
        for run in self.runs:
            name = run.name
            if self.states.get(name) == "finished":
                continue
            if name in finished and self.results.record(name) is not None:
                self.states[name] = "finished"
            elif name in running:
                self.states[name] = "running"
                self._steps[name] = (self.results.progress(name) or {}).get("step", 0)
            else:
                self.states[name] = "failed" if name in failed else "waiting"

    def _line(self, run: Run) -> str:
        text = f"{run.env} {run.algo} seed {run.seed}: "
        record = self.results.record(run.name)
        if self.states[run.name] == "failed" or record is None:
            return text + "failed"
        self._shown += 1
        text = f"{self._shown}/{len(self.runs)} {text}"
        mean_return = float(np.mean(record["evaluations"][-1]["returns"]))
        return text + f"return {mean_return:.1f} after {run.timesteps:,} steps, {sum(record['seconds'].values()):.0f} s"

    def table(self) -> Group:
        """:return: how the study stands"""
        counts = Counter(self.states.values())
        grid = Table.grid(padding=(0, 2))
        for run in self.runs:
            if self.states[run.name] == "running":
                steps = self._steps[run.name]
                bar = ProgressBar(total=run.timesteps, completed=steps, width=30)
                grid.add_row(run.env, run.algo, f"seed {run.seed}", bar, f"{steps:,} of {run.timesteps:,} steps")
        done = sum(self._share(run) for run in self.runs)
        words = ", ".join(f"{counts[state]} {state}" for state in ("finished", "running", "waiting", "failed"))
        total = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(len(self.runs), 1), completed=done, width=40)
        total.add_row("all runs", bar, words, f"{time.monotonic() - self._start:.0f} s")
        return Group(grid, total)

    def _share(self, run: Run) -> float:
        """:return: how much of a run is done, from 0 to 1"""
        if self.states[run.name] == "running":
            return min(self._steps[run.name] / run.timesteps, 1.0)
        return float(self.states[run.name] == "finished")
