"""The report of a study: Markdown, a page of HTML that needs nothing beside it, JSON, and the figures."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from sb3_udrl.benchmark.comparison import (
    Environment,
    common,
    compare,
    improvement,
    improvements_to_json,
    overall,
)
from sb3_udrl.benchmark.figures import draw_all, picture
from sb3_udrl.benchmark.lines import Line
from sb3_udrl.benchmark.results import Record, Results
from sb3_udrl.benchmark.runs import file_name
from sb3_udrl.benchmark.statistics import Interval, interval_to_json, median_with_never, stratified_interval
from sb3_udrl.benchmark.storage import Store
from sb3_udrl.evaluation import mean_absolute_error


@dataclass(frozen=True)
class Table:
    """
    :param header: names of the columns
    :param rows: the cells
    """

    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    """
    :param name: of its files
    :param title: what it shows
    :param svg: the drawing
    :param png: the same in pixels
    """

    name: str
    title: str
    svg: bytes
    png: bytes

    @property
    def data_url(self) -> str:
        """:return: the drawing as an address"""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


def write_report(url: str, thresholds: dict[str, float]) -> str:
    """
    :param url: where the results are
    :param thresholds: return that counts as solved, by environment; default: Gymnasium's
    :return: where the page is
    :raises ValueError: when there are no finished runs
    :raises StoreError: when it cannot be written
    """
    results = Results(Store(url))
    records = results.records()
    if not records:
        raise ValueError(f"There are no finished runs in {url}: make some with python -m sb3_udrl.benchmark run ...")
    environments = compare(records, thresholds)
    shared, algos = common(environments)
    pictures: dict[str, Picture] = {}
    for name, title, figure in draw_all(environments, shared, algos):
        file = file_name(name)
        while file in [image.name for image in pictures.values()]:
            file += "-"  # the files of "Wind+" and "Wind-" would have the same name
        pictures[name] = Picture(file, title, picture(figure, "svg"), picture(figure, "png"))
    content = content_of(results, records, environments, shared, algos, pictures)
    loader = jinja2.PackageLoader("sb3_udrl.benchmark")
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    texts = jinja2.Environment(loader=loader, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    store = results.store
    for image in pictures.values():
        store.write(f"report/{image.name}.svg", image.svg)
        store.write(f"report/{image.name}.png", image.png)
    store.write("report/report.json", json.dumps(report_json(results, environments, shared, algos), indent=1).encode())
    store.write("report/report.md", texts.get_template("report.md").render(content).encode())
    store.write("report/report.html", pages.get_template("report.html").render(content).encode())
    return f"{store.url}/report/report.html"


def content_of(
    results: Results,
    records: list[Record],
    environments: Sequence[Environment],
    shared: Sequence[Environment],
    algos: Sequence[str],
    pictures: dict[str, Picture],
) -> dict[str, Any]:
    """:return: what the templates show"""
    return {
        "sections": [
            {
                "env": env,
                "scores": scores_table(env),
                "speed": speed_table(env),
                "improvement": improvement_table([env], [line.algo for line in env.lines]),
                "pictures": [pictures[f"{kind}-{env.name}"] for kind in ("scores", "curves")],
                "budget": budget_note(env),
            }
            for env in environments
        ],
        "overview": overview_table(environments) if len(environments) > 1 else None,
        "overview_picture": pictures.get("overview"),
        "overall": overall_table(shared, algos) if len(shared) > 1 else None,
        "overall_improvement": improvement_table(environments, algos) if len(environments) > 1 else None,
        "overall_picture": pictures.get("overall"),
        "shared": shared,
        "skipped": results.skipped(),
        "failures": results.failures(),
        "settings": settings_table(environments),
        "provenance": provenance_lines(records),
        "n_runs": len(records),
        "date": datetime.date.today().isoformat(),
    }


def report_json(
    results: Results, environments: Sequence[Environment], shared: Sequence[Environment], algos: Sequence[str]
) -> dict[str, Any]:
    """:return: all numbers of the report"""
    return {
        "environments": [env.to_json() for env in environments],
        "overall": {
            "environments": [env.name for env in shared],
            "normalised_iqm": {
                algo: interval_to_json(stratified_interval(overall(shared, algo))) for algo in algos if shared
            },
        },
        "probability_of_improvement": improvements_to_json(environments, algos),
        "skipped": results.skipped(),
        "failures": [{key: value for key, value in one.items() if key != "traceback"} for one in results.failures()],
        "provenance": provenance_lines(results.records()),
    }


def overview_table(environments: Sequence[Environment]) -> Table:
    """:return: how good the algorithms are after training, in all environments"""
    algos = list(dict.fromkeys(line.algo for env in environments for line in env.lines))
    rows = []
    for env in environments:
        finals = {line.algo: interval_text(line.final) for line in env.lines}
        rows.append([env.name, *(finals.get(algo, "") for algo in algos)])
    return Table(["interquartile mean [95 %]", *algos], rows)


def scores_table(env: Environment) -> Table:
    """:return: how good the algorithms are after training"""
    rows = []
    for line in env.lines:
        worst = int(line.scores.argmin())
        row = [
            line.algo,
            str(len(line.seeds)),
            interval_text(line.final),
            number_text(line.scores.mean()) + (f" ± {number_text(line.std)}" if len(line.seeds) > 1 else ""),
            f"{number_text(line.scores[worst])} (seed {line.seeds[worst]})",
            number_text(line.scores.max()),
            number_text(line.mean_length),
        ]
        if any(one.calibration for one in env.lines):
            row.append(obedience_text(line))
        rows.append(row)
    header = [
        "algorithm",
        "seeds",
        "interquartile mean [95 %]",
        "mean ± std",
        "worst seed",
        "best seed",
        "episode length",
    ]
    if any(line.calibration for line in env.lines):
        header.append("error of commands (median, worst seed)")
    return Table(header, rows)


def obedience_text(line: Line) -> str:
    """:return: by how much commands were missed, or nothing where nobody asked for other than 0"""
    asked = [
        run["calibration"] for run in line.records if any(one["desired_return"] for one in run.get("calibration", []))
    ]
    errors = [100 * mean_absolute_error(calibration) for calibration in asked]
    return f"{np.median(errors):.1f} %, {max(errors):.1f} %" if errors else ""


def speed_table(env: Environment) -> Table:
    """:return: how soon the algorithms learn, and what their time goes into"""
    rows = []
    for line in env.lines:
        row = [line.algo]
        if env.threshold is not None:
            steps, seconds = (line.reaching(env.threshold, by) for by in ("steps", "seconds"))
            median = median_with_never(steps)
            row.append("never" if median is None else f"{median:,.0f}")
            row.append(", ".join("–" if step is None else f"{step:,.0f}" for step in sorted(steps, key=never_last)))
            time = median_with_never(seconds)
            row.append("never" if time is None else f"{time:,.0f} s")
        row += [f"{seconds:,.0f} s" for seconds in line.mean_seconds().values()]
        row.append(f"{max(run['peak_memory_mb'] for run in line.records):,.0f} MB")
        rows.append(row)
    header = ["algorithm"]
    if env.threshold is not None:
        header += [f"steps to {env.threshold:g} (median)", "each seed", "wall-clock to it (median)"]
    return Table([*header, "acting", "environment", "training", "evaluation", "peak memory"], rows)


def never_last(step: float | None) -> float:
    """:return: a key to sort by"""
    return float("inf") if step is None else step


def improvement_table(environments: Sequence[Environment], algos: Sequence[str]) -> Table:
    """:return: how likely a run of one algorithm is better than a run of another one, where both ran"""
    rows = []
    for ours in algos:
        intervals = [improvement(environments, ours, theirs) for theirs in algos]
        rows.append([ours, *("" if one is None else interval_text(one, digits=2) for one in intervals)])
    return Table(["probability that … is better than →", *algos], rows)


def overall_table(shared: Sequence[Environment], algos: Sequence[str]) -> Table:
    """:return: normalised scores over several environments"""
    strata = {algo: overall(shared, algo) for algo in algos}
    rows = [
        [algo, str(sum(map(len, scores))), interval_text(stratified_interval(scores), digits=2)]
        for algo, scores in strata.items()
    ]
    return Table(["algorithm", "runs", "interquartile mean of normalised scores [95 %]"], rows)


def settings_table(environments: Sequence[Environment]) -> Table:
    """:return: what settings the algorithms had"""
    rows = []
    for env in environments:
        for line in env.lines:
            tuned = line.run["tuned_for"]
            hyperparams = ", ".join(f"{key}: {value}" for key, value in sorted(line.run["hyperparams"].items()))
            steps = f"{line.run['timesteps']:,}"
            rows.append(
                [env.name, line.algo, steps, "" if tuned is None else f"{tuned:,}", line.run["source"], hyperparams]
            )
    return Table(["environment", "algorithm", "steps", "tuned for", "settings from", "settings"], rows)


def budget_note(env: Environment) -> str:
    """:return: whether an algorithm had another number of steps than it was tuned for, or was evaluated otherwise"""
    notes = [
        f"{line.algo}'s settings are meant for {line.run['tuned_for']:,} steps"
        for line in env.lines
        if line.run["tuned_for"] not in (None, line.run["timesteps"])
    ]
    notes += [f"{line.algo} is evaluated with sampled actions" for line in env.lines if not line.run["deterministic"]]
    budgets = sorted({line.run["timesteps"] for line in env.lines})
    return f"{' or '.join(f'{steps:,}' for steps in budgets)} environment steps. " + (
        "; ".join(notes) + "." if notes else ""
    )


def provenance_lines(records: list[Record]) -> dict[str, str]:
    """:return: versions, revisions and machines of the runs"""
    versions = sorted({f"{name} {version}" for record in records for name, version in record["versions"].items()})
    return {
        "versions": ", ".join(versions),
        "git revision": ", ".join(sorted({str(record["git_revision"]) for record in records})),
        "machine": "; ".join(sorted({record["machine"] for record in records})),
    }


def interval_text(interval: Interval, digits: int | None = None) -> str:
    """
    :param interval: an estimate
    :param digits: after the point; default: as many as the size of the number asks for
    :return: the same in words
    """
    value, low, high = (number_text(part, digits) for part in interval)
    return value if low == "nan" else f"{value} [{low}, {high}]"


def number_text(value: float, digits: int | None = None) -> str:
    """:return: a number with a sensible number of digits"""
    if digits is None:
        digits = 0 if abs(value) >= 1000 or value == 0 else 1 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
