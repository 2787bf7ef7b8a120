"""The figures as a picture: how many times better than the reference each server is, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from bench.plan import Scale, title
from bench.report import REFERENCE, Figures, digits
from bench.servers import KINDS

COLOURS = {
    "roost": "#c2410c",
    "roost-pymongo": "#ea8a5a",
    "roost-lean": "#f5b895",
    "feathers-verify": "#94a3b8",
    "parse": "#a5b4fc",
    "plain": "#86c5a4",
}


def draw(summary: Mapping[str, Mapping[str, Figures]], scale: Scale, path: Path) -> None:
    """Saves the picture. The reference, which has to have been measured, is the line at 1; to its right is better."""
    kinds = [kind for kind in KINDS if kind != REFERENCE and any(kind in of_row for of_row in summary.values())]
    height = 0.8 / max(len(kinds), 1)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.2 * (len(kinds) + 1) * len(summary)), layout="constrained")
    for place, kind in enumerate(kinds):
        ratios = [of_row[kind].ratio if kind in of_row else None for of_row in summary.values()]
        bars = [(row, ratio) for row, ratio in enumerate(ratios) if ratio is not None]
        heights = [row + (place - (len(kinds) - 1) / 2) * height for row, _ in bars]
        # On a logarithmic axis a bar has to start at the reference, not at nothing.
        drawn = axes.barh(heights, [ratio - 1 for _, ratio in bars], height, left=1, label=KINDS[kind].title)
        for bar, (_, ratio) in zip(drawn, bars, strict=True):
            bar.set_color(COLOURS[kind])
            outwards = 3 if ratio >= 1 else -3
            axes.annotate(
                f"x{digits(ratio)}",
                (ratio, bar.get_y() + height / 2),
                (outwards, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center",
                fontsize=7,
            )
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(summary)), [title(row, scale) for row in summary])
    axes.invert_yaxis()
    axes.set_xlabel(
        f"times less than {KINDS[REFERENCE].title}: server CPU per call or delivery; memory per idle connection"
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"x{value:g}")
    figure.legend(fontsize=8, loc="outside upper right", ncols=len(kinds))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
