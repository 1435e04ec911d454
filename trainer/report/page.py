"""HTML page of sections of a few kinds of blocks: one self-contained file without scripts."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainer import __version__
from trainer.report.drawing import Drawing, as_svg

_SMALL_PX: Final = 200
_MEDIUM_PX: Final = 300

NOT_CLINICAL: Final = "Research software. Not a medical device, and not for clinical use."


@dataclass(frozen=True)
class Text:
    """A paragraph, or several."""

    lines: Sequence[str]
    kind: str = "words"


@dataclass(frozen=True)
class Facts:
    """A list of terms and values."""

    rows: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Caveats(Text):
    """Paragraphs that nobody may miss."""

    kind: str = "caveats"


@dataclass(frozen=True)
class KeyNumber:
    """A number that is read first: what it is, its value, and what to know of it."""

    term: str
    value: str
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class KeyNumbers:
    """The numbers at the top of a page."""

    numbers: Sequence[KeyNumber]
    kind: str = "numbers"


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "table"


@dataclass(frozen=True)
class Shown:
    """An image: its data URI, its description, and its caption."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Images:
    """Images in a row."""

    images: Sequence[Shown]
    kind: str = "images"


@dataclass(frozen=True)
class Plots:
    """Drawings in a row, as many as fit."""

    drawings: Sequence[Drawing]
    caption: str = ""
    narrow: Sequence[Drawing] = ()
    """The same for a phone, shown there instead."""
    kind: str = "plots"

    @property
    def size(self) -> Literal["small", "medium", "large", "full"]:
        """How many fit in a row: of small ones two on a phone; those with a `narrow` form have a row of their own."""
        if self.narrow:
            return "full"
        widest_px = max((72 * drawing.figure.get_figwidth() for drawing in self.drawings), default=0.0)
        return "small" if widest_px < _SMALL_PX else "medium" if widest_px < _MEDIUM_PX else "large"

    @property
    def svgs(self) -> list[Markup]:
        """The drawings as elements."""
        return _svgs(self.drawings)

    @property
    def narrow_svgs(self) -> list[Markup]:
        """Those for a phone."""
        return _svgs(self.narrow)


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line of text that opens them; open in print."""

    title: str
    blocks: Sequence["Block"]
    kind: str = "folded"


Block = Text | Facts | KeyNumbers | Table | Images | Plots | Folded


@dataclass(frozen=True)
class Section:
    """A heading with blocks."""

    id: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def _svgs(drawings: Sequence[Drawing]) -> list[Markup]:
    return [Markup(as_svg(drawing)) for drawing in drawings]  # noqa: S704 - `as_svg` escapes their text


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole file, without empty sections."""
    css = _css()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    template = _environment().get_template("page.html.j2")
    return template.render(
        title=title,
        subtitle=subtitle,
        sections=[section for section in sections if section.blocks],
        not_clinical=NOT_CLINICAL,
        version=__version__,
        css=Markup(css),  # noqa: S704 - a file of this package
        # Only this style and embedded images: nothing is fetched and nothing runs, whatever names contain.
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
    )


@cache
def _environment() -> Environment:
    loader = PackageLoader("trainer.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _css() -> str:
    return files("trainer.report").joinpath("templates/page.css").read_text(encoding="utf-8")
