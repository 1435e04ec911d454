"""Pictures of a report: images on which a model was surely wrong, with the map of what it looked at; read back without torch."""

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from trainer.formats.documents import Share, checked
from trainer.limits import parsed_json

FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image, and the same under its class activation map, beside each other."""

    image: str
    """Its name, as the data set gives it."""
    finding: str
    """What it was taken for, or what was missed in it."""
    kind: str
    """`highest score without it` or `lowest score with it`; in a model that says one class, `wrong class`."""
    truth: str
    """What its labels say, in words."""
    probability: float
    """What the model gave the finding, before calibration."""
    jpeg: bytes
    """JPEG, for it is a seventh of a PNG and nobody measures on a thumbnail."""

    @property
    def uri(self) -> str:
        """The picture as an address that a page embeds."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def to_bytes(pictures: Sequence[Picture]) -> bytes:
    """The file `report/gallery.json`, from which the page can be written again."""
    rows = [vars(one) | {"jpeg": base64.b64encode(one.jpeg).decode()} for one in pictures]
    return json.dumps({"format": FORMAT, "pictures": rows}).encode()


def from_bytes(content: bytes) -> tuple[Picture, ...]:
    """The pictures of such a file; those that can't be read are left out, for a page without them is still a page."""
    pictures = []
    with suppress(ValueError, KeyError, TypeError):
        for row in parsed_json(content)["pictures"]:
            with suppress(ValueError, KeyError, TypeError):
                pictures.append(_picture(row))
    return tuple(pictures)


def _picture(row: Mapping[str, Any]) -> Picture:
    jpeg = base64.b64decode(row["jpeg"], validate=True)
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise ValueError("no JPEG")
    words = {name: checked(row[name], str) for name in ("image", "finding", "kind", "truth")}
    return Picture(**words, probability=float(checked(row["probability"], Share)), jpeg=jpeg)
