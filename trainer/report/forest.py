"""Forest plots: a mark with its 95 % interval per row, and the number beside it. Does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainer.evaluation.document import Interval
from trainer.report.drawing import (
    COLOURS,
    INK,
    MARKERS,
    TICK_PX,
    WIDTH,
    Drawing,
    canvas,
    legend_labels,
    styled,
    with_few_ticks,
)
from trainer.report.formatting import interval
from trainer.report.labels import fitted, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE: Final = 720.0
"""Width on a desktop and on paper: names left of the marks, numbers right of them."""

NARROW: Final = float(WIDTH)
"""Width on a phone: names and numbers above their mark, which has the whole width."""

_NAME_PX: Final = 240.0
_LINE: Final = 24.0
_TWO_LINES: Final = 36.0
_BELOW: Final = 40.0
_LEGEND_LINE: Final = 17.0


@dataclass(frozen=True)
class Row:
    """A line of the plot."""

    name: str
    number: Interval
    is_sure: bool = True
    """Whether the interval may be drawn: otherwise, the mark is hollow and stands alone."""
    remark: str = ""
    """In place of the number's interval."""

    @property
    def text(self) -> str:
        """The number with its interval, as beside the mark."""
        if self.number["value"] is None:
            return "not defined"
        return self.remark or interval(self.number)

    @property
    def has_bar(self) -> bool:
        """Whether the interval is drawn: one of a single number shows no certainty."""
        low, high = self.number["low"], self.number["high"]
        return self.is_sure and low is not None and high is not None and low < high


@dataclass(frozen=True)
class Marks:
    """Other numbers for some of the rows, such as published ones."""

    name: str
    values: Sequence[float | None]
    """One per row."""


@styled()
def forest(
    title: str,
    rows: Sequence[Row],
    *,
    width: float = WIDE,
    others: Sequence[Marks] = (),
    reference: float | None = None,
) -> Drawing:
    """The first row at the top. `reference` is a value with a line of its own, such as 0 for differences."""
    is_wide = width >= WIDE
    step = _LINE if is_wide else _TWO_LINES
    above = _LEGEND_LINE * len(others) + (10 if is_wide else 4)
    texts = [row.text for row in rows]
    left, right = _margins([row.name for row in rows], texts) if is_wide else (10.0, 14.0)
    height = step * len(rows)
    figure, (axes,) = canvas(width, height + _BELOW + above, [(left, _BELOW, width - left - right, height)])
    _draw_rows(axes, rows, reference, 0.5 if is_wide else 0.2)
    for nth, marks in enumerate(others, start=1):
        _draw_marks(axes, marks, nth)
    axes.set_ylim(len(rows) - 0.5, -0.5 if is_wide else -1.0 + 1 / 3)
    with_few_ticks(axes, 6 if is_wide else 4)
    axes.set_xlabel(f"{title}, 95 % interval", loc="center")
    if is_wide:
        _write_beside(axes, rows, left, width - left - right)
    else:
        _write_above(axes, rows, width - left - right)
    if others:
        _legend(axes, others, height)
    values = ", ".join(f"{row.name} {interval(row.number) if not row.remark else row.text}" for row in rows)
    return Drawing(figure, f"{title} with 95 % intervals: {values}.")


def both(title: str, rows: Sequence[Row], **options: object) -> tuple[Drawing, Drawing]:
    """The plot for a desktop and for a phone."""
    return forest(title, rows, width=WIDE, **options), forest(title, rows, width=NARROW, **options)  # type: ignore[arg-type] # as `forest`


def _margins(names: Sequence[str], texts: Sequence[str]) -> tuple[float, float]:
    """Widths of the columns of names and of numbers."""
    name = max((text_width(name, TICK_PX) for name in names), default=0.0)
    text = max((text_width(text, TICK_PX) for text in texts), default=0.0)
    return min(name, _NAME_PX) + 16, text + 20


def _draw_rows(axes: "Axes", rows: Sequence[Row], reference: float | None, reach: float) -> None:
    if reference is not None:  # beside the marks only, as it would cross the words between them
        for at in range(len(rows)):
            axes.plot([reference] * 2, [at - reach, at + reach], color=INK, alpha=0.6, linewidth=1, zorder=1)
    for at, row in enumerate(rows):
        value, low, high = row.number["value"], row.number["low"], row.number["high"]
        if value is None:
            continue
        if row.has_bar and low is not None and high is not None:
            axes.plot([low, high], [at, at], color=COLOURS[0], linewidth=2.2, solid_capstyle="butt")
        inside = COLOURS[0] if row.has_bar else "none"
        style: dict[str, Any] = {"marker": "o", "markersize": 6.5, "markerfacecolor": inside, "linestyle": "none"}
        axes.plot([value], [at], color=COLOURS[0], **style)
    if all(row.number["value"] is None for row in rows):
        axes.set_xlim(0, 1)


def _draw_marks(axes: "Axes", marks: Marks, nth: int) -> None:
    points = [(value, at) for at, value in enumerate(marks.values) if value is not None]
    axes.plot(
        [value for value, _ in points],
        [at for _, at in points],
        color=COLOURS[nth % len(COLOURS)],
        marker=MARKERS[nth % len(MARKERS)],
        markerfacecolor="none",
        markersize=6.5,
        linestyle="none",
        label=marks.name,
    )


def _write_beside(axes: "Axes", rows: Sequence[Row], left: float, panel: float) -> None:
    axes.set_yticks(range(len(rows)), fitted([row.name for row in rows], left - 12, TICK_PX))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for at, row in enumerate(rows):
        axes.text(1 + 12 / panel, at, row.text, va="center", fontsize=TICK_PX, transform=axes.get_yaxis_transform())


def _write_above(axes: "Axes", rows: Sequence[Row], panel: float) -> None:
    """A line of text over each mark, without lines of a grid through it."""
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    room = panel - max((text_width(row.text, TICK_PX) for row in rows), default=0.0) - 10
    for at, (row, name) in enumerate(zip(rows, fitted([row.name for row in rows], room, TICK_PX), strict=True)):
        axes.axhline(at, color=INK, alpha=0.12, linewidth=0.8, zorder=0)
        for x, text, side in ((0.0, name, "left"), (1.0, row.text, "right")):
            place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": side, "va": "bottom"}
            axes.text(x, at - 0.26, text, fontsize=TICK_PX, **place)


def _legend(axes: "Axes", others: Sequence[Marks], height: float) -> None:
    handles = axes.get_legend_handles_labels()[0]
    axes.legend(
        handles,
        legend_labels([marks.name for marks in others]),
        loc="lower left",
        bbox_to_anchor=(0, 1 + 3 / height),
        borderpad=0,
        borderaxespad=0,
        handletextpad=0.2,
        labelspacing=0.2,
        ncols=1,
    )
