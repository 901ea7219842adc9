"""The pictures: commanded against achieved return. Needs matplotlib, ``pip install "sb3-udrl[plots]"``."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes


def plot_calibration(records: list[dict[str, Any]], ax: Axes | None = None, label: str | None = None) -> Axes:
    """
    Commanded against achieved return, with the line on which both are the same (1912.02877, Figure 6).

    Points are means over episodes, or over models when several have the same command; bars are one standard
    deviation over the same. Where a return was asked for within several horizons, each of them is a line.

    :param records: what :func:`sb3_udrl.evaluation.calibrate` returned, of one or several models
    :param ax: where to draw; default: a new figure
    :param label: name in the legend; default: where there are several horizons, the horizon
    :return: where it was drawn
    :raises ValueError: when there are no records
    """
    if not records:
        raise ValueError("There is nothing to draw: pass the records that calibrate() returned.")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    if not any(line.get_gid() == "identity" for line in ax.lines):
        start = min(record["desired_return"] for record in records)
        ax.axline((start, start), slope=1, color="0.6", linestyle="--", zorder=1, gid="identity")
    for name, line in _lines(records, label):
        desired = sorted({record["desired_return"] for record in line})
        means, stds = [], []
        for value in desired:
            same = [record for record in line if record["desired_return"] == value]
            one = len(same) == 1
            means.append(np.mean([record["mean_return"] for record in same]))
            stds.append(same[0]["std_return"] if one else np.std([record["mean_return"] for record in same]))
        ax.errorbar(desired, means, yerr=stds, marker="o", markersize=4, capsize=3, label=name)
    ax.set_xlabel("desired return")
    ax.set_ylabel("achieved return")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
    return ax


def _lines(records: list[dict[str, Any]], label: str | None) -> list[tuple[str | None, list[dict[str, Any]]]]:
    """:return: labels and records of lines in which no return is asked for within two horizons"""
    commands = {(record["desired_return"], record["desired_horizon"]) for record in records}
    if len(commands) == len({desired_return for desired_return, _ in commands}):
        return [(label, records)]
    return [
        (
            f"{'' if label is None else label + ', '}within {horizon:g} steps",
            [record for record in records if record["desired_horizon"] == horizon],
        )
        for horizon in sorted({horizon for _, horizon in commands})
    ]
