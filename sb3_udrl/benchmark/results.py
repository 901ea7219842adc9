"""What a store holds: finished runs, failures, pairs that were skipped, and how far running ones are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sb3_udrl.benchmark.runs import Run, file_name
from sb3_udrl.benchmark.storage import Store, StoreError

Record = dict[str, Any]


class Results:
    """
    The files of a study.

    :param store: where they are
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._cache: dict[str, Record] = {}

    def finished(self) -> list[str]:
        """:return: names of finished runs, half-written ones not among them"""
        return [name for name in self.store.names("runs") if self.record(name) is not None]

    def record(self, name: str) -> Record | None:
        """
        :param name: a run's name
        :return: what came of it; None when it is not finished
        """
        if name not in self._cache:
            record = self.store.read_json(f"runs/{name}.json")
            # The name ends with the hash of the settings, which the record repeats
            if not isinstance(record, dict) or not name.endswith(str(record.get("run", {}).get("key", "?"))):
                return None
            self._cache[name] = record
        return self._cache[name]

    def records(self) -> list[Record]:
        """:return: those of all finished runs"""
        return [record for name in self.store.names("runs") if (record := self.record(name)) is not None]

    def finish(self, run: Run, record: Record, files: dict[str, bytes]) -> None:
        """
        :param run: a run
        :param record: what came of it
        :param files: of its model
        :raises StoreError: when they cannot be written
        """
        for name, data in files.items():
            self.store.write(f"models/{run.name}/{name}", data)
        # Last, since it is what says that the run is finished
        self.store.write_json(f"runs/{run.name}.json", record)
        self.store.remove(f"failures/{run.name}.json")

    def fail(self, run: Run, reason: str, text: str) -> None:
        """
        :param run: a run
        :param reason: what went wrong, in a line
        :param text: the traceback
        :raises StoreError: when that cannot be written
        """
        content = {"name": run.name, "env": run.env, "algo": run.algo, "seed": run.seed}
        self.store.write_json(f"failures/{run.name}.json", {**content, "reason": reason, "traceback": text})

    def failures(self) -> list[Record]:
        """:return: runs that failed, with reason and traceback"""
        return self._all("failures")

    def skip(self, skipped: dict[tuple[str, str], str], runs: Sequence[Run]) -> None:
        """
        :param skipped: why pairs of (environment, algorithm) have no runs
        :param runs: those of the other pairs, which are forgotten to have been skipped by an earlier study
        :raises StoreError: when that cannot be written
        """
        for env, algo in {(run.env, run.algo) for run in runs}:
            self.store.remove(f"skipped/{file_name(env)}.{file_name(algo)}.json")
        for (env, algo), reason in skipped.items():
            content = {"env": env, "algo": algo, "reason": reason}
            self.store.write_json(f"skipped/{file_name(env)}.{file_name(algo)}.json", content)

    def skipped(self) -> list[Record]:
        """:return: pairs of environment and algorithm that were not run, with the reason"""
        return self._all("skipped")

    def beat(self, run: Run, step: int, mean_return: float | None) -> None:
        """
        Say that a run is under way. That this cannot be written does no harm.

        :param run: the run
        :param step: environment steps so far
        :param mean_return: of the last evaluation
        """
        try:
            self.store.write_json(f"running/{run.name}.json", {"step": step, "mean_return": mean_return})
        except StoreError:
            return

    def progress(self, name: str) -> Record | None:
        """
        :param name: a run's name
        :return: how far it is; None when it is not running
        """
        return self.store.read_json(f"running/{name}.json")

    def stop_beating(self, name: str) -> None:
        """:param name: a run that is not running"""
        self.store.remove(f"running/{name}.json")

    def forget(self, name: str) -> None:
        """
        Forget what an earlier study, which failed or was killed, left of a run.

        :param name: a run that is about to start
        """
        self.stop_beating(name)
        self.store.remove(f"failures/{name}.json")
        for file in self.store.names(f"tensorboard/{name}", suffix=""):
            self.store.remove(f"tensorboard/{name}/{file}")

    def _all(self, folder: str) -> list[Record]:
        contents = (self.store.read_json(f"{folder}/{name}.json") for name in self.store.names(folder))
        return [content for content in contents if content is not None]
