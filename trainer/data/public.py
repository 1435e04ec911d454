"""Recognition of public data sets; pictures of any other are shown only on request.

The name of a folder proves nothing. Recognised are
    the phantoms of `trainer synth`, when the label table is the one that their seed generates;
    ChestX-ray14, when the label files equal NIH's or those of the published 70/10/20 split, byte for byte;
    the paediatric pneumonia set of Kermany et al., when classes and all image names match.
A subset of one with other label files is not recognised; use `--gallery on` for it.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.data.layouts import Source
from trainer.data.synthetic import has_drawn
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import LimitError

NIH: Final = "ChestX-ray14"
KERMANY: Final = "Kermany's paediatric pneumonia set"
PHANTOMS: Final = "synthetic phantoms"

KAGGLE_TEST: Final = {"NORMAL": 234, "PNEUMONIA": 390}
"""Images of each class in `test/` of the pneumonia set, on Kaggle as on Mendeley.

Source: Kermany et al., Cell 2018: "tested with 234 normal images and 390 pneumonia images"; the release has as many.
"""

_NIH_FILES: Final = {
    "nih": {"dc1d2df67fdc1c5a7601d48699cda2b13dc2c4841488b4183dcf04884dbaca11"},
    "lists": {
        "332d49fb9b7a380bd25c1a54de7544ab422bdc37142459e273298a8ea2ea5c03",
        "ef239d3493893aba431c39a9aa5c57e9bc3c04cdd3df505e0754dece04cb31da",
        "4333f58bed6d26bd974d825f6ee78a48ce7f81985803c145b3e13ae0c1d8f927",
    },
}
"""sha256 of each layout's uncompressed label files.

Source: Data_Entry_2017_v2020.csv of NIH's release; train_list.txt, val_list.txt and test_list.txt of arnoweng/CheXNet.
"""

_NIH_PATTERNS: Final = {
    "nih": ("Data_Entry_2017*.csv*",),
    "lists": ("train_list.txt*", "val_list.txt*", "test_list.txt*"),
}

_KERMANY: Final = {
    "NORMAL": re.compile(r"((?:NORMAL2-)?IM-\d{4}-\d{4}(?:-\d{4})?(?:_\d)?|NORMAL-\d+-\d{4})\.jpe?g", re.ASCII),
    "PNEUMONIA": re.compile(
        r"(person\d{1,4}_(?:bacteria|virus)_\d{1,4}(?:_\d)?|(?:BACTERIA|VIRUS)-\d+-\d{4})\.jpe?g", re.ASCII
    ),
}
"""File names by class, on Kaggle, some with the suffix of a copy, or on Mendeley.

Source: the 5,856 files of the set on Kaggle (paultimothymooney/chest-xray-pneumonia); doi:10.17632/rscbjbr9sj.3.
"""


def public_name(source: Source) -> str | None:
    """Name of the data set, None where it is not recognised."""
    if source.layout in _NIH_FILES:
        if _label_hashes(source) == _NIH_FILES[source.layout]:
            return NIH
        return PHANTOMS if are_drawn(source) else None
    if source.layout == "folders" and _is_kermany(source):
        return KERMANY
    return PHANTOMS if are_drawn(source) else None


def is_kaggle_test(images: Sequence[str]) -> bool:
    """Whether these are the images of the pneumonia set's own `test/`: as many of each class, all named as it names them."""
    if len(images) != sum(KAGGLE_TEST.values()):
        return False
    paths = [PurePosixPath(name).parts for name in images]
    if any(len(parts) != 3 or parts[0] != "test" or not _has_its_name(parts[1], parts[2]) for parts in paths):
        return False
    return Counter(parts[1] for parts in paths) == KAGGLE_TEST


def are_drawn(source: Source) -> bool:
    """Whether the images are phantoms of `trainer synth`, not X-rays."""
    return has_drawn(source.root, source.layout)


def _label_hashes(source: Source) -> set[str]:
    paths = [path for pattern in _NIH_PATTERNS[source.layout] for path in source.root.glob(pattern)]
    paths = [path for path in paths if path.name not in source.unread]
    return {_sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(tables.content_of(path)).hexdigest()
    except (OSError, LimitError, TableError):
        return "cannot be read"


def _is_kermany(source: Source) -> bool:
    table = source.table
    if set(table.findings) != set(_KERMANY) or not table.images:
        return False
    classes = [table.findings[column] for column in table.labels_NK.argmax(axis=1).tolist()]
    return all(_has_its_name(name, image.rpartition("/")[2]) for name, image in zip(classes, table.images, strict=True))


def _has_its_name(of_class: str, file_name: str) -> bool:
    """Whether the pneumonia set names files of this class so."""
    return of_class in _KERMANY and _KERMANY[of_class].fullmatch(file_name) is not None
