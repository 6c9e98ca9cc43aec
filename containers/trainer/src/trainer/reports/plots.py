"""Plots as SVG within a page. Import this module only where a report is made: Matplotlib comes with it.

The same numbers give the same bytes. Colours are written as the page's CSS variables, so a plot follows light and dark,
and texts stay text. Whoever draws more than a few thousand marks has not thinned out his data: see
`trainer.evaluation.curves`.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from trainer import reports
from trainer.reports import label

Vector = NDArray[np.float64]

PAPER, INK, MUTED, LINE, NEUTRAL = "#ffffff", "#1b1f24", "#57606a", "#d8dee4", "#8c959f"
CANDIDATE, CHAMPION = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe and Ito, told apart with every kind of colour vision; line styles differ too."""
_VARIABLES = {
    PAPER: "--paper",
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    NEUTRAL: "--neutral",
    CANDIDATE: "--candidate",
    CHAMPION: "--champion",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "text.parse_math": False,  # a dollar sign in a category's name is a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.unicode_minus": True,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": NEUTRAL,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "text.color": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "path.simplify": True,
}
WIDTH, HEIGHT = 5.0, 3.75
"""Inches of a usual plot; a page scales it to its column."""


@dataclass(frozen=True)
class Plot:
    """A drawing for a page.

    Attributes:
        title: its heading.
        caption: what one should see in it, in words.
        svg: the drawing, with an alternative text.
    """

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Series:
    """A line or a row of marks; the candidate's is blue and solid, the champion's vermilion and dashed."""

    name: str
    x: Vector
    y: Vector
    role: str = "candidate"

    @property
    def colour(self) -> str:
        """As the page writes it for this role."""
        return {"candidate": CANDIDATE, "champion": CHAMPION}.get(self.role, NEUTRAL)

    @property
    def dashes(self) -> str:
        """Line style."""
        return {"candidate": "-", "champion": "--"}.get(self.role, ":")

    @property
    def marker(self) -> str:
        """Shape of a mark."""
        return {"candidate": "o", "champion": "D"}.get(self.role, "s")


Paint = Callable[[Any], None]


def draw(
    alt: str,
    paint: Paint,
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
    rows: int = 1,
    columns: int = 1,
    **grid: Any,
) -> Markup:
    """Draw with Matplotlib and return the SVG.

    Args:
        alt: what is to be seen, in words, for those who do not see it.
        paint: draws on the axes it is given: one, or an array (rows, columns) of them where there are several.
        width: inches, as `height`; text has its true size at 72 pixels an inch.
        grid: goes to ``Figure.subplots``, such as ``sharex``.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": alt}):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, **{"squeeze": rows == columns == 1, **grid})
        paint(axes)
        buffer = io.StringIO()
        _quietly(lambda: figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA)))
    return _inline(buffer.getvalue(), alt)


_METADATA = ("Date", "Creator", "Format", "Type")


def _quietly(save: Callable[[], None]) -> None:
    """Save without a warning for each character that the font for measuring lacks; the browser has others."""
    import warnings

    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            save()
    finally:
        fonts.setLevel(level)


_ROOT = re.compile(r"^.*?<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)
# What Matplotlib writes and a page does not need: its comments repeat each text, its style is in `base.html.j2`.
_SURPLUS = re.compile(
    r"\s*(?:<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style[^>]*>.*?</style>\s*</defs>)", re.DOTALL
)
_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(?:url\(#|href="#)([^")]+)')
_LONG = re.compile(r"(\d\.\d\d)\d+")
_COLOUR = re.compile("|".join(_VARIABLES))


def _inline(document: str, alt: str) -> Markup:
    """Turn an SVG document into an element of a page: no prologue, colours by variable, no id that nobody uses."""
    found = _ROOT.match(document)
    assert found is not None, "Matplotlib wrote no SVG element"
    body = _SURPLUS.sub("", document[found.end() :])
    used = set(_REFERENCE.findall(body))

    def tidy(tag: re.Match[str]) -> str:
        """Only tags: a category may be called as a colour is."""
        text = _ID.sub(lambda match: match.group(0) if match.group(1) in used else "", tag.group(0))
        text = text.replace("xlink:href", "href")
        text = _COLOUR.sub(lambda match: f"var({_VARIABLES[match.group(0)]},{match.group(0)})", text)
        return _LONG.sub(r"\1", text)

    body = re.sub(r">\s*\n\s*<", ">\n<", _TAG.sub(tidy, body))
    root = f'<svg viewBox="{found.group(1)}" role="img" aria-label="{escape(alt)}">'
    return Markup(root + body.rstrip() + "\n")  # Matplotlib escapes the texts


def _percent_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.3g} %"))


def _number_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace("-", "−")))


def roc(title: str, caption: str, series: Sequence[Series]) -> Plot:
    """ROC curves."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=0.9, linestyle=":", label="chance")
        for one in reversed(series):
            axes.plot(one.x, one.y, color=one.colour, linestyle=one.dashes, label=one.name)
        axes.set(xlabel="False positive rate", ylabel="True positive rate", xlim=(0, 1), ylim=(0, 1.005))
        axes.set_aspect("equal")
        _ordered_legend(axes, loc="lower right")

    return Plot(title, caption, draw(f"{title}. {caption}", paint, height=4.4))


def _ordered_legend(axes: Axes, **place: Any) -> None:
    """Legend with the candidate first, though its line is drawn last, above the others."""
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], **{"handlelength": 2.2, **place})


def precision_recall(title: str, caption: str, series: Sequence[Series], base_rate: float) -> Plot:
    """Precision by recall, above the share of positives that guessing would have."""

    def paint(axes: Axes) -> None:
        axes.axhline(
            base_rate, color=NEUTRAL, linewidth=0.9, linestyle=":", label=f"chance ({reports.percent(base_rate)})"
        )
        for one in reversed(series):
            axes.plot(one.x, one.y, color=one.colour, linestyle=one.dashes, label=one.name)
        axes.set(xlabel="Recall", ylabel="Precision", xlim=(0, 1), ylim=(0, 1.005))
        axes.set_aspect("equal")
        _ordered_legend(axes, loc="upper right")

    return Plot(title, caption, draw(f"{title}. {caption}", paint, height=4.4))


def calibration(
    title: str, caption: str, series: Sequence[Series], histograms: Sequence[Vector], edges: Vector
) -> Plot:
    """Reliability diagram over the histograms of the predictions.

    Args:
        series: mean prediction (x) and share of positives (y) of each bin.
        histograms: share of the rows in each bin of `edges`, one for each of the series.
    """

    def paint(grid: Any) -> None:
        upper, lower = grid[:, 0]
        upper.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=0.9, linestyle=":", label="perfect")
        for one in reversed(series):
            upper.plot(
                one.x, one.y, color=one.colour, linestyle=one.dashes, marker=one.marker, markersize=4, label=one.name
            )
        upper.set(ylabel="Observed share", xlim=(0, 1), ylim=(0, 1.005))
        upper.tick_params(labelbottom=False)
        _ordered_legend(upper, loc="upper left")
        for one, heights in zip(series, histograms, strict=True):
            lower.stairs(heights, edges, color=one.colour, linestyle=one.dashes, linewidth=1.2)
        lower.set(xlabel="Predicted probability", ylabel="Rows", ylim=(0, None))
        lower.yaxis.set_major_locator(MaxNLocator(2))
        _percent_axis(lower.yaxis)

    svg = draw(f"{title}. {caption}", paint, height=4.4, rows=2, sharex=True, gridspec_kw={"height_ratios": [3.2, 1]})
    return Plot(title, caption, svg)


def interval(title: str, caption: str, value: float, low: float, high: float, axis: str) -> Plot:
    """One number with its interval, beside the line of no difference."""

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1)
        axes.plot([low, high], [0, 0], color=CANDIDATE, linewidth=3, solid_capstyle="butt")
        axes.plot([value], [0], color=CANDIDATE, marker="o", markersize=8)
        reach = max(abs(low), abs(high), abs(value), 1e-9) * 1.25
        axes.set(xlim=(-reach, reach), ylim=(-1, 1), yticks=[], xlabel=axis)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.text(-reach, 0.95, "← champion better", ha="left", va="top", color=MUTED)
        axes.text(reach, 0.95, "candidate better →", ha="right", va="top", color=MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: reports.signed(number, 3)))

    return Plot(title, caption, draw(f"{title}. {caption}", paint, height=1.3))


def dots(
    title: str,
    caption: str,
    names: Sequence[str],
    series: Sequence[Series],
    axis: str,
    notes: Sequence[str] = (),
    notes_title: str = "",
    reference: float | None = None,
    whole: bool = False,
) -> Plot:
    """One row per name with a mark for each of the series, and a note at its right end.

    Args:
        names: from top to bottom.
        series: their ``x`` are the values, NaN where there is none; ``y`` is not read.
        reference: where to draw a line across all rows.
        whole: the axis starts at 0.
    """
    places = np.arange(len(names), dtype=np.float64)[::-1]

    def paint(axes: Axes) -> None:
        if reference is not None and np.isfinite(reference):
            axes.axvline(reference, color=CANDIDATE, linewidth=0.8, linestyle=":")
        if len(series) > 1:
            low = np.fmin(series[0].x, series[1].x)
            high = np.fmax(series[0].x, series[1].x)
            axes.hlines(places, low, high, color=LINE, linewidth=2.5)
        elif whole:
            axes.hlines(places, 0, series[0].x, color=LINE, linewidth=2.5)
        for one in reversed(series):
            axes.plot(
                one.x, places, color=one.colour, marker=one.marker, markersize=5, linestyle="none", label=one.name
            )
        axes.set_yticks(places, [label(name, 28) for name in names], color=INK)
        axes.set(xlabel=axis, ylim=(-0.7, len(names) - 0.3))
        if whole:
            axes.set_xlim(left=0)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=False, axis="y")
        for place, note in zip(places, notes, strict=False):
            axes.annotate(
                note, (1, place), xycoords=("axes fraction", "data"), xytext=(34, 0), textcoords="offset points",
                ha="right", va="center", color=MUTED, fontsize=8,
            )  # fmt: skip
        if notes:
            axes.annotate(
                notes_title, (1, 1), xycoords="axes fraction", xytext=(34, 5), textcoords="offset points",
                ha="right", va="bottom", color=MUTED, fontsize=8,
            )  # fmt: skip
        if len(series) > 1:
            _ordered_legend(
                axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handletextpad=0.2
            )

    return Plot(title, caption, draw(f"{title}. {caption}", paint, height=0.75 + 0.22 * max(3, len(names))))


def lines(
    title: str, caption: str, series: Sequence[Series], x_label: str, y_label: str, mark: float | None = None
) -> Plot:
    """Lines over numbers, such as a metric over the steps of a training."""

    def paint(axes: Axes) -> None:
        if mark is not None:
            axes.axvline(mark, color=MUTED, linewidth=0.9, linestyle=":")
        for one in reversed(series):
            many = len(one.x) > 40
            axes.plot(
                one.x,
                one.y,
                color=one.colour,
                linestyle=one.dashes,
                marker="" if many else one.marker,
                markersize=3.5,
                label=one.name,
            )
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _number_axis(axes.xaxis)
        _number_axis(axes.yaxis)
        if len(series) > 1:
            _ordered_legend(axes, loc="best")

    return Plot(title, caption, draw(f"{title}. {caption}", paint))


def small_rocs(title: str, caption: str, panels: Mapping[str, Sequence[Series]]) -> Plot:
    """A ROC plot per class, each against the rest."""
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)

    def paint(grid: Any) -> None:
        every = list(np.ravel(grid))
        for axes in every[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, series) in zip(every, panels.items(), strict=False):
            axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=0.8, linestyle=":")
            for one in reversed(series):
                axes.plot(one.x, one.y, color=one.colour, linestyle=one.dashes, linewidth=1.4)
            axes.set_title(label(name, 22))
            axes.set(xlim=(0, 1), ylim=(0, 1.01), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            axes.set_aspect("equal")
        for index, axes in enumerate(every[: len(panels)]):
            if index % columns == 0:
                axes.set_ylabel("True positive rate")
            if index + columns >= len(panels):
                axes.set_xlabel("False positive rate")
                axes.tick_params(labelbottom=True)

    width = 2.05 * columns + 0.4
    svg = draw(f"{title}. {caption}", paint, width=width, height=2.25 * rows + 0.2, rows=rows, columns=columns)
    return Plot(title, caption, svg)


def densities(
    title: str,
    caption: str,
    panels: Sequence[tuple[Series, NDArray[np.int64]]],
    x_edges: Vector,
    y_edges: Vector,
    x_label: str,
    y_label: str,
) -> Plot:
    """How many rows fall where, one panel each, on the same axes, with the diagonal of perfect answers.

    Args:
        panels: whose it is, and counts (x, y) of the cells between the edges.
    """

    def paint(grid: Any) -> None:
        for axes, (one, counts) in zip(np.ravel(grid), panels, strict=True):
            # In eight steps on a logarithmic scale: single rows stay to be seen beside thousands.
            shade = np.ceil(np.log1p(counts) / np.log1p(max(int(counts.max()), 1)) * 8)
            for level in range(1, 9):
                cells = _rectangles(np.argwhere(shade == level), x_edges, y_edges)
                if cells is not None:
                    alpha = round(0.1 + 0.9 * level / 8, 3)
                    axes.add_patch(PathPatch(cells, facecolor=one.colour, alpha=alpha, linewidth=0))
            axes.plot(x_edges[[0, -1]], x_edges[[0, -1]], color=INK, linewidth=0.9, linestyle=":")
            axes.set(xlim=x_edges[[0, -1]], ylim=y_edges[[0, -1]], xlabel=x_label, title=one.name)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(4))
                _number_axis(axis)
        np.ravel(grid)[0].set_ylabel(y_label)

    svg = draw(
        f"{title}. {caption}",
        paint,
        width=4.0 * len(panels) + 0.4 if len(panels) > 1 else WIDTH,
        height=4.0,
        columns=len(panels),
        squeeze=False,
        sharey=True,
    )
    return Plot(title, caption, svg)


def _rectangles(cells: NDArray[np.intp], x_edges: Vector, y_edges: Vector) -> Path | None:
    """Return cells of a grid, given by their positions (cells, 2), as one path."""
    if not len(cells):
        return None
    (left, bottom), (right, top) = cells.T, cells.T + 1
    corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    points = np.stack([np.column_stack([x_edges[x], y_edges[y]]) for x, y in corners], axis=1)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(points.reshape(-1, 2), np.tile(codes, len(cells)))


def histograms(
    title: str, caption: str, series: Sequence[Series], edges: Vector, x_label: str, zero: bool = False
) -> Plot:
    """Outlines of histograms over the same bins; the series' ``y`` are the shares of the rows."""

    def paint(axes: Axes) -> None:
        if zero:
            axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=":")
        for one in reversed(series):
            axes.stairs(one.y, edges, color=one.colour, linestyle=one.dashes, linewidth=1.4, label=one.name)
        axes.set(xlabel=x_label, ylabel="Rows", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        _number_axis(axes.xaxis)
        _percent_axis(axes.yaxis)
        if len(series) > 1:
            _ordered_legend(axes, loc="upper right")

    return Plot(title, caption, draw(f"{title}. {caption}", paint))
