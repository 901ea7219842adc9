"""The pictures of a study. Line styles and markers tell algorithms apart without colours."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sb3_udrl.benchmark.comparison import Environment, overall
from sb3_udrl.benchmark.lines import Line
from sb3_udrl.benchmark.statistics import Interval, performance_profile, stratified_interval
from sb3_udrl.plotting import plot_calibration

# Colours that differ in brightness and for colour-blind eyes (Okabe and Ito), line styles, markers
STYLES: list[tuple[str, Any, str]] = [
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#E69F00", ":", "D"),
    ("#333333", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#CC79A7", (0, (8, 2)), "P"),
    ("#56B4E9", (0, (1, 3)), "X"),
]
N_THRESHOLDS = 200
HEIGHT = 3.4  # inches
LOOK: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "font.size": 9,
    "svg.hashsalt": "sb3_udrl",  # the same picture is the same file
}

Styles = dict[str, tuple[str, Any, str]]


def styles_of(environments: Sequence[Environment]) -> Styles:
    """
    :param environments: all of a report
    :return: how each algorithm looks, the same in all figures
    """
    algos = dict.fromkeys(line.algo for environment in environments for line in environment.lines)
    n_styles = len(STYLES)
    styles = {}
    for i, algo in enumerate(algos):
        again = i // n_styles  # when the colours begin again, each meets another line and marker
        colour, line, marker = (STYLES[(i + shift * again) % n_styles][shift] for shift in range(3))
        styles[algo] = (colour, line, marker)
    return styles


def draw_all(
    environments: Sequence[Environment], shared: Sequence[Environment], algos: Sequence[str]
) -> Iterator[tuple[str, str, Figure]]:
    """
    :param environments: what was compared
    :param shared: environments that can be looked at together
    :param algos: algorithms that ran in all of these
    :return: name, title, and figure, one after the other
    """
    styles = styles_of(environments)
    with mpl.rc_context(LOOK):
        if len(environments) > 1:
            yield "overview", "Learning curves in each environment", overview(environments, styles)
        for env in environments:
            yield f"curves-{env.name}", f"Learning curves on {env.name}", learning_curves(env, styles)
            yield f"scores-{env.name}", f"After training on {env.name}", final_scores(env, styles)
        if len(shared) > 1:
            yield "overall", "All environments together", overall_scores(shared, algos, styles)


def overview(environments: Sequence[Environment], styles: Styles) -> Figure:
    """
    :param environments: what was compared
    :param styles: how each algorithm looks
    :return: mean returns by steps, a panel for each environment
    """
    n_columns = min(len(environments), 3)
    n_rows = math.ceil(len(environments) / n_columns)
    figure = Figure(figsize=(3.8 * n_columns, 2.6 * n_rows + 0.4), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).flat
    legend: dict[str, Artist] = {}
    for axes, env in itertools.zip_longest(panels, environments):
        if env is None:
            axes.set_axis_off()
            continue
        _curves_by_steps(axes, env, styles)
        _cut_dips(axes, env.lines)
        axes.set_title(env.name, fontsize="medium")
        handles, names = axes.get_legend_handles_labels()
        legend |= {name: handle for name, handle in zip(names, handles, strict=True) if name in styles}
    figure.supxlabel("environment steps", fontsize="medium")
    figure.supylabel("return of an evaluation episode", fontsize="medium")
    figure.legend(legend.values(), legend.keys(), loc="outside upper center", ncols=len(legend), frameon=False)
    return figure


def learning_curves(env: Environment, styles: Styles) -> Figure:
    """
    :param env: an environment
    :param styles: how each algorithm looks
    :return: mean returns by steps and by wall-clock, and obedience where it was measured
    """
    obedient = [line for line in env.lines if line.calibration]
    figure = Figure(figsize=(12 if obedient else 9.5, HEIGHT), layout="constrained")
    left, right, *others = figure.subplots(1, 3 if obedient else 2)
    right.sharey(left)
    right.tick_params(labelleft=False)
    for axes in others:
        _obedience(axes, obedient, styles)
    longest = max(float(line.curve_by_time[0][-1]) for line in env.lines)
    unit, name = (60, "minutes") if longest > 180 else (1, "seconds")
    _curves_by_steps(left, env, styles)
    left.set(xlabel="environment steps", ylabel="return of an evaluation episode")
    for line in env.lines:
        seconds, by_time = line.curve_by_time
        _band(right, seconds / unit, by_time, styles[line.algo], line.algo)
    right.set(xlabel=f"{name} of training, without evaluation")
    right.set_xlim(left=0)
    _threshold(right, env)
    _cut_dips(left, env.lines)  # right shares its axis
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def final_scores(env: Environment, styles: Styles) -> Figure:
    """
    :param env: an environment
    :param styles: how each algorithm looks
    :return: scores of each seed, and performance profiles
    """
    figure = Figure(figsize=(9.5, HEIGHT), layout="constrained")
    left, right = figure.subplots(1, 2)
    _points(left, [(line.algo, line.scores, line.final) for line in env.lines], styles)
    left.set(xlabel="mean return of each seed, interquartile mean, 95 % interval")
    everything = np.concatenate([line.scores for line in env.lines])
    _profiles(right, [(line.algo, [line.scores]) for line in env.lines], everything, styles)
    right.set(xlabel="mean return", ylabel="share of seeds above it")
    return figure


def overall_scores(shared: Sequence[Environment], algos: Sequence[str], styles: Styles) -> Figure:
    """
    :param shared: environments that can be looked at together
    :param algos: algorithms that ran in all of these
    :param styles: how each algorithm looks
    :return: normalised scores and performance profiles
    """
    strata = {algo: overall(shared, algo) for algo in algos}
    figure = Figure(figsize=(9.5, HEIGHT), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [(algo, np.concatenate(scores), stratified_interval(scores)) for algo, scores in strata.items()]
    _points(left, rows, styles)
    left.set(xlabel="normalised score of each run, interquartile mean, 95 % interval")
    everything = np.concatenate([scores for _, scores, _ in rows])
    _profiles(right, list(strata.items()), everything, styles)
    right.set(xlabel="normalised score", ylabel="share of runs above it")
    return figure


def picture(figure: Figure, suffix: str) -> bytes:
    """
    :param figure: a figure
    :param suffix: ``"png"`` or ``"svg"``
    :return: its file
    """
    buffer = io.BytesIO()
    with mpl.rc_context(LOOK):
        figure.savefig(buffer, format=suffix, dpi=130, metadata={"Date": None} if suffix == "svg" else None)
    return buffer.getvalue()


def _curves_by_steps(axes: Axes, env: Environment, styles: Styles) -> None:
    for line in env.lines:
        _band(axes, *line.curve, styles[line.algo], line.algo)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.set_xlim(left=0)
    _threshold(axes, env)


def _cut_dips(axes: Axes, lines: Sequence[Line]) -> None:
    """Leave room for the rest where one curve dips far below all starts and ends."""
    curves = [line.curve[1] for line in lines]
    lows = [np.fmin(curve.value, curve.low) for curve in curves]  # one seed has no interval
    highs = [np.fmax(curve.value, curve.high) for curve in curves]
    base = min(low[[0, -1]].min() for low in lows)
    bottom = base - (max(high.max() for high in highs) - base) / 4
    if min(low.min() for low in lows) < bottom:
        axes.set_ylim(bottom=bottom)


def _band(axes: Axes, x: np.ndarray, interval: Interval, style: tuple[str, Any, str], label: str) -> None:
    colour, line, marker = style
    every = max(len(x) // 8, 1)
    axes.plot(x, interval.value, color=colour, linestyle=line, marker=marker, markevery=every, ms=4, label=label)
    axes.fill_between(x, interval.low, interval.high, color=colour, alpha=0.15, linewidth=0)


def _obedience(axes: Axes, lines: Sequence[Line], styles: Styles) -> None:
    for line in lines:
        colour, _, marker = styles[line.algo]
        plot_calibration(line.calibration, axes, line.algo)
        container = axes.containers[-1]
        for artist in (container[0], *container[1], *container[2]):
            artist.set_color(colour)
        container[0].set_marker(marker)
    axes.legend(frameon=False)
    axes.set_title("obedience: mean and std over seeds", fontsize="medium")


def _threshold(axes: Axes, env: Environment) -> None:
    if env.threshold is not None:
        axes.axhline(
            env.threshold, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)), label=f"solved ({env.threshold:g})"
        )


def _points(axes: Axes, rows: list[tuple[str, np.ndarray, Interval]], styles: Styles) -> None:
    """One row for each algorithm: every run, and the interval beneath."""
    for y, (algo, scores, interval) in enumerate(rows):
        colour, _, marker = styles[algo]
        offsets = np.linspace(-0.12, 0.12, len(scores)) if len(scores) > 1 else np.zeros(1)
        axes.scatter(scores, y - 0.12 + offsets, s=18, marker=marker, facecolors="none", edgecolors=colour)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [y + 0.22] * 2, color=colour, linewidth=4, alpha=0.4)
        axes.plot(interval.value, y + 0.22, marker=marker, color=colour, ms=7)
    axes.set_yticks(range(len(rows)), [algo for algo, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _profiles(axes: Axes, rows: list[tuple[str, list[np.ndarray]]], everything: np.ndarray, styles: Styles) -> None:
    margin = 0.03 * max(float(np.ptp(everything)), 1e-6)
    thresholds = np.linspace(everything.min() - margin, everything.max() + margin, N_THRESHOLDS)
    for algo, strata in rows:
        _band(axes, thresholds, performance_profile(strata, thresholds), styles[algo], algo)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(framealpha=0.9, edgecolor="none", fontsize="small")  # over the lines, so not transparent


def _short(value: float) -> str:
    """30000 as 30k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
