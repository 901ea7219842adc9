"""A study: runs as jobs in a joblib pool, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch as th

from sb3_udrl.benchmark.progress import Display
from sb3_udrl.benchmark.results import Results
from sb3_udrl.benchmark.runs import Plan, Run
from sb3_udrl.benchmark.storage import Store, StoreError
from sb3_udrl.benchmark.training import Unsuitable, check, train


@dataclass(frozen=True)
class Engine:
    """
    How runs are run. What comes out is the same, but for the rounding of another ``device``.

    :param backend: joblib's: ``"loky"`` (processes of this machine), ``"ray"``, ``"dask"``
    :param jobs: how many at a time; -1 for all CPUs
    :param device: where the networks run
    :param save_models: whether to keep the models
    :param tensorboard: whether to log for TensorBoard
    :raises ValueError: when ``jobs`` is 0
    """

    backend: str = "loky"
    jobs: int = -1
    device: str = "cpu"
    save_models: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.jobs == 0:
            raise ValueError("jobs=0: use a number of runs at a time, or -1 for one for each CPU.")


def run_study(plan: Plan, url: str, engine: Engine) -> dict[str, str]:
    """
    Run what is not finished yet.

    :param plan: which runs
    :param url: where results go
    :param engine: how
    :return: what went wrong, by run
    :raises ValueError: when something cannot work; nothing has been trained then
    :raises StoreError: when results cannot be written; nothing has been trained then
    """
    runs, skipped = plan.runs()
    runs = suitable(runs, skipped)
    results = Results(Store(url))
    results.store.check()
    results.skip(skipped, runs)
    finished = set(results.finished())
    todo = [run for run in runs if run.name not in finished]
    for run in todo:
        results.forget(run.name)
    with Display(runs, skipped, results):
        return run_all(todo, results, engine)


def suitable(runs: list[Run], skipped: dict[tuple[str, str], str]) -> list[Run]:
    """
    :param runs: the runs
    :param skipped: pairs that are skipped; those whose algorithm cannot act in the environment are added
    :return: the others
    :raises ValueError: when settings do not work
    """
    for run in {(run.env, run.algo): run for run in runs}.values():
        try:
            check(run)
        except Unsuitable as reason:
            skipped[run.env, run.algo] = str(reason)
    return [run for run in runs if (run.env, run.algo) not in skipped]


def run_all(todo: list[Run], results: Results, engine: Engine) -> dict[str, str]:
    """
    :param todo: runs that are not finished
    :param results: where results go
    :param engine: how
    :return: what went wrong, by run
    """
    if not todo:
        return {}
    problems: dict[str, str] = {}
    batches = [todo]
    with _backend(engine):
        while batches:
            batch = batches.pop(0)
            try:
                outcomes = _run_in_pool(batch, results.store.url, engine)
            except Exception as error:  # each engine has its own
                outcomes, again = after_crash(batch, results, f"{type(error).__name__}: {error}")
                batches += again
            finished = set(results.finished())
            for name, problem in outcomes.items():
                if problem is not None:
                    problems[name] = problem
                elif name not in finished:
                    problems[name] = "its result went elsewhere: machines of a cluster must share DIR, as s3:// does"
    return problems


def after_crash(batch: list[Run], results: Results, reason: str) -> tuple[dict[str, str | None], list[list[Run]]]:
    """
    A process that dies, for want of memory perhaps, takes the whole pool with it. Whose it was nobody says, but it was
    one of those under way: they get another chance, alone, after the others.

    :param batch: runs that were in the pool
    :param results: where results go
    :param reason: what the engine said
    :return: what is known of some of them, as from the pool, and batches of those that are to be run again
    """
    finished, failed = set(results.finished()), {one["name"]: one["reason"] for one in results.failures()}
    left = [run for run in batch if run.name not in finished and run.name not in failed]
    outcomes = {run.name: failed.get(run.name) for run in batch if run not in left}
    suspects = [run for run in left if results.progress(run.name) is not None]
    for run in left:
        results.forget(run.name)
    if len(batch) == 1 or not suspects:
        for run in left:
            results.fail(run, f"its process was killed ({reason})", "")
        return {**outcomes, **dict.fromkeys((run.name for run in left), f"its process was killed ({reason})")}, []
    others = [run for run in left if run not in suspects]
    return outcomes, [*([others] if others else []), *([run] for run in suspects)]


def _run_in_pool(todo: list[Run], url: str, engine: Engine) -> dict[str, str | None]:
    parent = os.getpid() if engine.backend == "loky" else None
    outcomes = joblib.Parallel(batch_size=1)(joblib.delayed(run_once)(run, url, engine, parent) for run in todo)
    return dict(zip((run.name for run in todo), outcomes, strict=True))


@contextlib.contextmanager
def _backend(engine: Engine) -> Iterator[None]:
    """Connect joblib to the engine, which must be running where it is a cluster."""
    with contextlib.ExitStack() as stack:
        if engine.backend == "ray":
            import ray
            from ray.util.joblib import register_ray

            register_ray()
            if not ray.is_initialized():
                ray.init(log_to_driver=False)  # RAY_ADDRESS, or the cluster that runs on this machine
        if engine.backend == "dask":
            from distributed import Client

            stack.enter_context(Client())  # DASK_SCHEDULER_ADDRESS, or a cluster of its own
        stack.enter_context(joblib.parallel_config(engine.backend, n_jobs=engine.jobs))
        yield


@functools.cache
def end_with(parent: int) -> None:
    """
    End this process when the study does, even if that was killed: else its workers would go on with runs that
    whoever starts it again runs, too.

    :param parent: process of the study
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_once(run: Run, url: str, engine: Engine, parent: int | None = None) -> str | None:
    """
    Do one run, in whatever process, and store what came of it.

    :param run: what to do
    :param url: where results go
    :param engine: how
    :param parent: process that this one must not outlive; None if there is no such
    :return: what went wrong; None when nothing did
    """
    if parent not in (None, os.getpid()):
        end_with(parent)
    th.set_num_threads(1)  # networks this small run fastest on one, and others run beside
    results = Results(Store(url))

    def put_tensorboard(folder: Path) -> None:
        for path in folder.rglob("events.*"):
            with contextlib.suppress(StoreError):  # no reason to lose the run
                results.store.write(f"tensorboard/{run.name}/{path.name}", path.read_bytes())

    try:
        results.store.check()
        results.beat(run, 0, None)
        record, files = train(
            run,
            lambda step, mean_return: results.beat(run, step, mean_return),
            engine.device,
            engine.save_models,
            put_tensorboard if engine.tensorboard else None,
        )
        results.finish(run, record, files)
    except StoreError as error:
        return str(error)
    except Exception as error:  # one run's failure is no other's
        reason = f"{type(error).__name__}: {error}"
        with contextlib.suppress(StoreError):
            results.fail(run, reason, traceback.format_exc())
        return reason
    finally:
        results.stop_beating(run.name)
    return None


def problems_text(problems: dict[str, str]) -> str:
    """
    :param problems: what went wrong, by run
    :return: the same in words, each reason once
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in problems.items():
        by_reason.setdefault(reason, []).append(name)
    lines: list[Any] = [f"{len(problems)} runs are not finished:"]
    for reason, names in by_reason.items():
        lines.append(f"  {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {reason}")
    return "\n".join(lines)
