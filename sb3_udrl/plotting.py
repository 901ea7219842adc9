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
    deviation over the same.

    :param records: what :func:`sb3_udrl.evaluation.calibrate` returned, of one or several models
    :param ax: where to draw; default: a new figure
    :param label: name in the legend
    :return: where it was drawn
    :raises ValueError: when there are no records
    """
    if not records:
        raise ValueError("There is nothing to draw: pass the records that calibrate() returned.")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    desired = sorted({record["desired_return"] for record in records})
    means, stds = [], []
    for value in desired:
        same = [record for record in records if record["desired_return"] == value]
        one = len(same) == 1
        means.append(np.mean([record["mean_return"] for record in same]))
        stds.append(same[0]["std_return"] if one else np.std([record["mean_return"] for record in same]))
    if not any(line.get_gid() == "identity" for line in ax.lines):
        ax.axline((desired[0], desired[0]), slope=1, color="0.6", linestyle="--", zorder=1, gid="identity")
    ax.errorbar(desired, means, yerr=stds, marker="o", markersize=4, capsize=3, label=label)
    ax.set_xlabel("desired return")
    ax.set_ylabel("achieved return")
    if label is not None:
        ax.legend(frameon=False)
    return ax
