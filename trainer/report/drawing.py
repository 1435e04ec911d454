"""A matplotlib figure with a text description, written as SVG for a page or as PNG.

The SVG is for embedding in HTML: text and axes take the page's colour and fonts, the colours of data can be
distinguished on white and on near-black, and equal drawings give equal bytes. One unit is one CSS pixel at full size.
"""

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from trainer.report.labels import fitted, text_width

# Imported by the first drawing: matplotlib searches for fonts, which would delay the start of each training process.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#010203"
"""Colour of text and axes: near-black in a PNG, the page's colour in an SVG."""

COLOURS: Final = ("#2f7fc1", "#cc6510", "#189070", "#b0609c", "#8a7a1e", "#6b74c9")
"""Colours of data: hues of Okabe & Ito's palette, which colour-blind readers can distinguish, in tones visible on
white and on near-black.
"""

MARKERS: Final = ("o", "s", "D", "^", "v", "P")
DASHES: Final = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 3)))
"""Shapes in addition to colours, for gray-scale prints."""

TICK_PX: Final = 10.5
"""Size of the labels of ticks and legends."""

_STYLE: Final[dict[Any, Any]] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.formatter.limits": (-6, 9),
    "axes.formatter.useoffset": False,  # an offset would stand on the legend
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.unicode_minus": False,
    "figure.dpi": 72,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.8,
    "legend.fontsize": TICK_PX,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "path.simplify": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "trainer",
    "text.color": INK,
    "text.parse_math": False,  # `$` in the name of a class is a dollar sign
    "xtick.color": INK,
    "xtick.labelsize": TICK_PX,
    "ytick.color": INK,
    "ytick.labelsize": TICK_PX,
}

WIDTH: Final = 340
"""Width of a figure in pixels: full size on a phone, several in a row on a desktop."""

PANEL: Final = (48.0, 42.0, 278.0, 190.0)
"""Left, bottom, width and height of the axes in such a figure."""

_LEGEND_LINE: Final = 14.0
_HANDLE: Final = 42.0
"""Width of a line in a legend, with the space beside its label."""

_PNG_DPI: Final = 160

_PROLOG = re.compile(r".*?(?=<svg)", re.DOTALL)
_OVERHEAD = re.compile(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", re.DOTALL)
_ID = re.compile(r'\sid="([^"]*)"')
_USED = re.compile(r'(?:url\(#|href="#)([^")]+)')
_STYLE_OF = re.compile(r'\sstyle="([^"]*)"')
_FONT = re.compile(r"font: (?:\w+ )*?([\d.]+)px [^;]*")
_PLACE = re.compile(r'\s(d|x|y|transform|points)="([^"]*)"')
_LONG_NUMBER = re.compile(r"(\.\d)\d+")
_UPRIGHT = re.compile(r'\stransform="rotate\(-?0 [^"]*"')
_BETWEEN = re.compile(r">\s+<")
_HEAD = re.compile(r"<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>")


@dataclass(frozen=True)
class Drawing:
    """A figure, and its description in words with its numbers."""

    figure: "Figure"
    alt: str


@contextmanager
def styled() -> Iterator[None]:
    """Style for the block or decorated function. Warnings about missing glyphs are suppressed, as browsers have other fonts."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a read-only home directory does not matter
    from matplotlib import rc_context  # noqa: PLC0415 - see above

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def canvas(
    width: float, height: float, panels: Sequence[tuple[float, float, float, float]]
) -> "tuple[Figure, list[Axes]]":
    """A figure of this size and its axes, each (left, bottom, width, height); all in pixels. Call it inside `styled`."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    figure = Figure(figsize=(width / 72, height / 72))
    axes = [figure.add_axes((x / width, y / height, w / width, h / height)) for x, y, w, h in panels]
    for one in axes:
        one.set_axisbelow(True)
    return figure, axes


def look(nth: int) -> dict[str, Any]:
    """Colour, marker and dashes of the nth line: 36 that differ."""
    shape = nth + nth // len(COLOURS)
    return {
        "color": COLOURS[nth % len(COLOURS)],
        "marker": MARKERS[shape % len(MARKERS)],
        "linestyle": DASHES[shape % len(DASHES)],
    }


def in_percent(axes: "Axes") -> None:
    """Label the y axis in percent, with as many decimals as needed."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - see above

    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g}\u00a0%"))


def with_room_for_labels(axes: "Axes") -> None:
    """Move the left edge of the axes so that the labels of the y axis are in the figure. Call it last."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    low, high = sorted(axes.get_ylim())
    ticks = [tick for tick in axes.yaxis.get_majorticklocs() if low <= tick <= high]
    labels = axes.yaxis.get_major_formatter().format_ticks(ticks)
    needed = max((text_width(label, TICK_PX) for label in labels), default=0.0) + 12
    box, width = axes.get_position(), figure.get_figwidth() * 72
    left = max(box.x0, needed / width)
    axes.set_position((left, box.y0, box.x1 - left, box.height))


def with_few_ticks(axes: "Axes", most: int, *, whole: bool = False) -> None:
    """Limit the number of ticks of the x axis."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - see above

    axes.xaxis.set_major_locator(MaxNLocator(most, integer=whole, min_n_ticks=1, steps=[1, 2, 5, 10]))


def as_png(drawing: Drawing) -> bytes:
    """The drawing on white; deterministic."""
    out = io.BytesIO()
    with styled():
        drawing.figure.savefig(out, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def as_svg(drawing: Drawing) -> str:
    """The drawing as an `<svg>` element for HTML, without styles of its own and with unique IDs."""
    out = io.StringIO()
    with styled():
        drawing.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = _OVERHEAD.sub("", _PROLOG.sub("", out.getvalue(), count=1))
    text = _STYLE_OF.sub(_as_attributes, text.replace(INK, "currentColor"))
    text = _PLACE.sub(lambda place: _LONG_NUMBER.sub(r"\1", place[0]).replace(" \n", " "), _UPRIGHT.sub("", text))
    text = _BETWEEN.sub("><", text).strip()
    label = escape(drawing.alt, quote=True)
    text = _HEAD.sub(lambda head: f'<svg viewBox="{head[1]}" role="img" aria-label="{label}">', text, count=1)
    return _own_ids(text)


def _as_attributes(style: re.Match[str]) -> str:
    """Turn a style into attributes, so that the page's policy may forbid inline styles; the font family is the page's."""
    attributes = []
    for part in style[1].split(";"):
        name, _, value = part.partition(":")
        font = _FONT.fullmatch(part.strip())
        if font:
            attributes.append(f' font-size="{font[1]}"')
        elif name.strip() not in {"", "font-family"}:
            attributes.append(f' {name.strip()}="{value.strip()}"')
    return "".join(attributes)


def _own_ids(text: str) -> str:
    """Drop unused IDs and make the others unique to the drawing."""
    used = set(_USED.findall(text))
    prefix = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = _ID.sub(lambda match: f' id="{prefix}{match[1]}"' if match[1] in used else "", text)
    return _USED.sub(lambda match: match[0].replace(f"#{match[1]}", f"#{prefix}{match[1]}"), text)


def headroom(values: Sequence[float]) -> float:
    """Slightly more than the maximum, so that no line runs along the edge."""
    return 1.06 * max(values) or 1.0


def legend_rows(labels: Sequence[str]) -> int:
    """Rows of the legend above the axes: two labels in a row if all are short."""
    return -(-len(labels) // _legend_columns(labels))


def _legend_columns(labels: Sequence[str]) -> int:
    widest = max((text_width(label, TICK_PX) for label in labels), default=0.0)
    return 2 if 2 * (widest + _HANDLE) <= PANEL[2] else 1


def legend_labels(names: Sequence[str]) -> list[str]:
    """The names as labels of a legend, cut where they are too long, and still different."""
    return fitted(names, PANEL[2] - _HANDLE, TICK_PX)


def above_axes(labels: Sequence[str], title: str) -> float:
    """Height of the legend and the title above the axes, in pixels."""
    return _LEGEND_LINE * legend_rows(labels) + (22 if title else 6)


def legend_above(axes: "Axes", height: float, title: str = "") -> None:
    """Legend above axes of this height in pixels, and the title above it."""
    labels = [str(label) for label in axes.get_legend_handles_labels()[1]]
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1 + 3 / height),
        ncols=_legend_columns(labels),
        borderpad=0,
        borderaxespad=0,
        columnspacing=1.2,
        handlelength=2.2,
        labelspacing=0.2,
    )
    if title:
        axes.set_title(title, loc="left", pad=_LEGEND_LINE * legend_rows(labels) + 8)
