"""Pictures in a report: images with confidently wrong predictions, and class activation maps; does not import torch."""

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
    """An image next to the same image with its class activation map."""

    image: str
    """Its name in the data set."""
    finding: str
    """The finding wrongly predicted or missed."""
    kind: str
    """`highest score without it` or `lowest score with it`; for a single-label model, `wrong class`."""
    truth: str
    """Its labels, in words."""
    probability: float
    """Predicted probability of the finding."""
    calibrated: bool = False
    """Whether the probability is calibrated; those of galleries of earlier versions are not."""
    jpeg: bytes
    """JPEG: a seventh of the size of a PNG, and good enough for a thumbnail."""

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def to_bytes(pictures: Sequence[Picture]) -> bytes:
    """Content of `report/gallery.json`, from which the page can be rewritten."""
    rows = [vars(one) | {"jpeg": base64.b64encode(one.jpeg).decode()} for one in pictures]
    return json.dumps({"format": FORMAT, "pictures": rows}).encode()


def from_bytes(content: bytes) -> tuple[Picture, ...]:
    """Pictures of such a file; unreadable ones are left out, as the page is useful without them."""
    pictures = []
    with suppress(ValueError, KeyError, TypeError):
        for row in parsed_json(content)["pictures"]:
            with suppress(ValueError, KeyError, TypeError):
                pictures.append(_picture(row))
    return tuple(pictures)


def _picture(row: Mapping[str, Any]) -> Picture:
    jpeg = base64.b64decode(row["jpeg"], validate=True)
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise ValueError("not a JPEG")
    words = {name: checked(row[name], str) for name in ("image", "finding", "kind", "truth")}
    calibrated = checked(row.get("calibrated", False), bool)
    return Picture(**words, probability=float(checked(row["probability"], Share)), calibrated=calibrated, jpeg=jpeg)
