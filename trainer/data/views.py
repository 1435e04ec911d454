"""Projections of chest X-rays under the names that data sets give them."""

import re
from typing import Final

_NAMES: Final = {
    **dict.fromkeys(("pa", "posteroanterior"), "PA"),
    **dict.fromkeys(("ap", "anteroposterior"), "AP"),
    **dict.fromkeys(("lateral", "l", "ll", "rl", "lat"), "LATERAL"),
}
"""By the first word, in lower case. Source: tables of ChestX-ray14, CheXpert, MIMIC-CXR and PadChest."""


def view_of(text: str) -> str:
    """`PA`, `AP`, `LATERAL`, or empty for any other projection; also of `AP_horizontal`, `PA erect`, `XTABLE LATERAL`."""
    words = re.split(r"[^a-z]+", text.casefold().replace("-", ""))
    return _NAMES.get(words[0]) or ("LATERAL" if "lateral" in words else "")
