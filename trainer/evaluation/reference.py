"""Published results, each with the images it was measured on: on ChestX-ray14, and on the pneumonia set of two classes.

A published value may be shown next to a result only if it was measured on exactly the same images: from the published
70/10/20 test list to NIH's own, the same network loses about 0.03.
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from trainer.data.labels import FINDINGS
from trainer.data.labels import SPLITS as PARTS
from trainer.data.patients import nih_patient
from trainer.data.public import KAGGLE_TEST, is_kaggle_test
from trainer.evaluation.document import Evaluation, Reference

OFFICIAL: Final = "official"
RANDOM: Final = "random"
KAGGLE: Final = "kaggle"
OTHER: Final = "other"

SPLITS: Final = {
    OFFICIAL: "NIH's official split",
    RANDOM: "the published 70/10/20 split",
    KAGGLE: "Kermany's published split (the Kaggle test set)",
    OTHER: "a split without published results",
}
"""Description of each split."""

_LISTS: Final = {
    (25_596, "3d0c44b68d287fd04f90c4f25df13428bba7b3e729f65715d5cf73a88e83d226"): (OFFICIAL, "test"),
    (86_524, "eb8e4beb07b2018a5a9f16ba088761c0311959623e46fc54c9c2abb3e3737e47"): (OFFICIAL, "train"),
    (11_212, "7e7ad2ba0639ed45c57ad3d4858a254543f765242d118a29cb322276ad033ace"): (OFFICIAL, "val"),
    (22_433, "bbe3774c320aeb699e89ffd8a7d9f4ce7d230b1c16f4c4b7e9a2862383b17ec2"): (RANDOM, "test"),
    (78_468, "2c164674c3c52ea0ef1a0161f44ed9f0b673b08a02fa4f68b06f75e91297dcdd"): (RANDOM, "train"),
    (11_219, "8afe946ed597d80246872d21e4d556539326e9b78d51d9e06815c82dea463f12"): (RANDOM, "val"),
}
"""Number of names, and SHA-256 of the sorted names, one per line.

Source: NIH's test_list.txt, train_val_list.txt and the usual subset of validation images; the lists of
arnoweng/CheXNet, `ChestX-ray14/labels/`.
"""

_TEST_IMAGES: Final = {split: count for (count, _), (split, part) in _LISTS.items() if part == "test"} | {
    KAGGLE: sum(KAGGLE_TEST.values())
}


def published_list(images: Sequence[str]) -> tuple[str, str] | None:
    """Split (`official`, `random`, `kaggle`) and part (`train`, `val`, `test`) of the published list with exactly these names.

    Of the pneumonia set, which is published as folders, the form of the names and their number decide.
    """
    if is_kaggle_test(images):
        return KAGGLE, "test"
    if all(len(images) != count for count, _ in _LISTS):
        return None
    digest = hashlib.sha256("".join(f"{name}\n" for name in sorted(images)).encode()).hexdigest()
    return _LISTS.get((len(images), digest))


def split_of(test: Sequence[str]) -> str:
    """The published split whose test list has exactly these names, `official`, `random` or `kaggle`, otherwise `other`.

    The training list does not matter: results are comparable when the test images are the same.
    """
    published = published_list(test)
    return published[0] if published is not None and published[1] == "test" else OTHER


_SPLIT_NAMES: Final = {OFFICIAL: "NIH's split", RANDOM: "70/10/20 split"}

_LEAST_SHARE: Final = 0.01
"""Share of a published list from which on its images are taken for a part of it, and not for images that are in it by chance."""


def part_of_list(images: Sequence[str]) -> list[str]:
    """Notes about images that are a part of a published list, or that list with others; empty for a whole list."""
    if published_list(images) is not None:
        return []
    patients = [nih_patient(name) for name in images]
    parts = _parts_of_patients()
    known = [parts[number - 1] for patient in patients if patient and 0 < (number := int(patient)) <= len(parts)]
    notes = []
    for (total, _), (split, part) in _LISTS.items():
        index = PARTS.index(part)
        count = Counter(value // 3 if split == RANDOM else value % 3 for value in known)[index]
        others = len(images) - count
        if total * _LEAST_SHARE <= count <= total and (not others or 2 * count > total):
            rest = f", and {others:,} other images" if others else ""
            notes.append(
                f"{count:,} of {total:,} images of the published {part} list ({_SPLIT_NAMES[split]}){rest}: "
                "not comparable with values published for the whole list"
            )
    return notes


@cache
def _parts_of_patients() -> bytes:
    """Index in `PARTS` of each of the 30,805 patients: 3 times that in the 70/10/20 split, plus that in NIH's.

    Source: the six lists. No patient is in two lists of a split.
    """
    return zlib.decompress(files("trainer.evaluation").joinpath("published_lists.z").read_bytes())


@dataclass(frozen=True)
class _Published:
    name: str
    split: str
    same_list: bool
    """Whether it was measured on the published test list of its split."""
    values: str
    """AUROC of the 14 findings in order; empty where only the mean is known."""
    mean: float
    note: str
    source: str

    @property
    def auroc(self) -> dict[str, float]:
        return dict(zip(FINDINGS, map(float, self.values.split()), strict=True)) if self.values else {}


def references(findings: Sequence[str], *, split: str, part: str, images: int) -> list[Reference]:
    """All references for the 14 findings, or for the classes normal and pneumonia; those measured on exactly the
    evaluated images are comparable. None for other findings.

    `images` is the number of evaluated images: with one missing it is another test set.
    """
    complete = part == "test" and images == _TEST_IMAGES.get(split)
    if _is_pneumonia(findings):
        return [_of_classes(one, findings, same_images=complete and one.split == split) for one in _OF_CLASSES]
    if tuple(findings) != FINDINGS:
        return []
    return [
        Reference(
            name=one.name,
            split=one.split,
            comparable=complete and one.same_list and one.split == split,
            auroc=one.auroc,
            mean=one.mean,
            note=one.note,
            source=one.source,
        )
        for one in _PUBLISHED
    ]


@dataclass(frozen=True)
class _OfClasses:
    """A result published for the pneumonia set."""

    name: str
    split: str
    accuracy: float
    note: str
    source: str
    sensitivity: float | None = None
    specificity: float | None = None
    auroc: float | None = None


def _is_pneumonia(findings: Sequence[str]) -> bool:
    return sorted(name.upper() for name in findings) == sorted(KAGGLE_TEST)


def _of_classes(one: _OfClasses, findings: Sequence[str], *, same_images: bool) -> Reference:
    reference = Reference(
        name=one.name,
        split=one.split,
        comparable=same_images and one.split != OTHER,
        auroc={} if one.auroc is None else dict.fromkeys(findings, one.auroc),  # of two classes both have the same
        mean=one.auroc,
        note=one.note,
        source=one.source,
        accuracy=one.accuracy,
    )
    if one.sensitivity is not None and one.specificity is not None:
        reference |= {"sensitivity": one.sensitivity, "specificity": one.specificity}
    return reference


@dataclass(frozen=True)
class ClassScores:
    """Scores of this model, or published ones, for the classes normal and pneumonia; None where unknown."""

    name: str
    images: str
    """On which images, in words."""
    accuracy: float | None
    sensitivity: float | None
    """For pneumonia, whatever the positive class of the evaluation."""
    specificity: float | None
    auroc: float | None


def class_scores(evaluation: Evaluation) -> list[ClassScores]:
    """This model, then each published result for two classes; empty where there is none."""
    published, classes = [one for one in evaluation["references"] if "accuracy" in one], evaluation["classes"]
    if not published:
        return []
    recall = {name.upper(): one["value"] for name, one in classes["recall"].items()} if classes else {}
    ours = ClassScores(
        "this model",
        "these",
        classes["accuracy"]["value"] if classes else None,
        recall.get("PNEUMONIA"),
        recall.get("NORMAL"),
        evaluation["mean_auroc"]["value"],
    )
    theirs = [
        ClassScores(
            one["name"],
            "these" if one["comparable"] else "other",
            one.get("accuracy"),
            one.get("sensitivity"),
            one.get("specificity"),
            one["mean"],
        )
        for one in published
    ]
    return [ours, *theirs]


def class_notes(evaluation: Evaluation) -> list[tuple[str, Reference]]:
    """Each different note about results published for two classes: names of the results, and one of these."""
    published = [one for one in evaluation["references"] if "accuracy" in one]
    first = {one["note"]: one for one in reversed(published)}
    return [
        ("; ".join(one["name"] for one in published if one["note"] == note), first[note])
        for note in dict.fromkeys(one["note"] for one in published)
    ]


_NOT_REPRODUCIBLE: Final = "as published, not reproducible: tested on an 80/20 split of its own that is not given"

_KUMAR: Final = "Kumar & Moghal, Pneumonia Diagnosis with Deep Learning, fig. 27"

_OF_CLASSES: Final = (
    _OfClasses(
        name="Kermany 2018",
        split=KAGGLE,
        accuracy=0.928,
        sensitivity=0.932,
        specificity=0.901,
        auroc=0.968,
        note="Inception-v3; as published, not reproducible: .932 is no share of 390 images, and .901 none of 234",
        source="Kermany et al., Cell 172, 2018, doi:10.1016/j.cell.2018.02.010",
    ),
    *(
        _OfClasses(
            name=f"Kumar & Moghal, {network}, {gpus} GPU{'s' * (gpus > 1)}",
            split=OTHER,
            accuracy=accuracy,
            note=f"{_NOT_REPRODUCIBLE}{extra}",
            source=_KUMAR,
        )
        for network, gpus, accuracy, extra in (
            ("DenseNet-121", 1, 0.871, "; no share of 624 images"),
            ("DenseNet-121", 2, 0.902, ""),
            ("DenseNet-121", 4, 0.894, ""),
            ("VGG16", 1, 0.896, ""),
            ("VGG16", 2, 0.860, "; no share of 624 images"),
            ("VGG16", 4, 0.878, ""),
        )
    ),
)
"""Results for normal and pneumonia. Source: the papers named.

Kermany et al. tested on 234 normal and 390 pneumonia images, which are `test/` of their release and of Kaggle's copy, and
trained on the 5,232 others; so these are the images of `kaggle`. Their accuracy is 579/624 to the printed digits, but no
k/390 is .932 (363 give .931, 364 .933) and no k/234 is .901 (210 give .897, 211 .902): shares of batches, perhaps.

Of the six accuracies of Kumar & Moghal, 90.2, 89.4, 89.6 and 87.8 % would be 563, 558, 559 and 548 of the 624 images of
Kaggle's test set; 87.1 and 86.0 % are no k/624 to the printed digits (543 give 87.0, 544 87.2; 536 give 85.9, 537 86.1).
The paper made its own 80/20 split, and does not say which images it tested on.
"""


_OTHER_PATIENTS = "lists were not published"

# Values are in the order of FINDINGS; means are plain means of the 14 values.
_PUBLISHED: Final = (
    _Published(
        name="zoogzog",
        split=RANDOM,
        same_list=True,
        values=".8321 .9107 .8860 .7145 .8653 .8037 .7655 .8857 .8157 .9017 .9422 .8523 .7948 .9416",
        mean=0.8508,
        note="DenseNet-121, 10 crops, 2017 labels",
        source="https://github.com/zoogzog/chexnet",
    ),
    _Published(
        name="arnoweng",
        split=RANDOM,
        same_list=True,
        values=".8294 .9165 .8870 .7143 .8597 .7873 .7745 .8726 .8142 .8932 .9254 .8304 .7831 .9104",
        mean=0.8427,
        note="DenseNet-121, 10 crops, 2017 labels",
        source="https://github.com/arnoweng/CheXNet",
    ),
    _Published(
        name="arnoweng, improved",
        split=RANDOM,
        same_list=True,
        values=".8311 .9220 .8891 .7146 .8627 .7883 .7820 .8844 .8148 .8992 .9343 .8385 .7914 .9206",
        mean=0.8481,
        note="DenseNet-121, 10 crops, 2017 labels",
        source="https://github.com/arnoweng/CheXNet",
    ),
    _Published(
        name="jrzech",
        split=RANDOM,
        same_list=True,
        values=".8180 .9090 .8827 .7156 .8377 .7756 .7617 .8776 .8002 .8945 .9316 .8251 .7889 .9175",
        mean=0.8383,
        note="DenseNet-121, 1 view, 2020 labels",
        source="https://github.com/jrzech/reproduce-chexnet",
    ),
    _Published(
        name="CheXNet",
        split=RANDOM,
        same_list=False,
        values=".8094 .9248 .8638 .7345 .8676 .7802 .7680 .8887 .7901 .8878 .9371 .8047 .8062 .9164",
        mean=0.8414,
        note=_OTHER_PATIENTS,
        source="Rajpurkar et al. 2017, arXiv:1711.05225",
    ),
    _Published(
        name="Yao 2017",
        split=RANDOM,
        same_list=False,
        values=".772 .904 .859 .695 .792 .717 .713 .841 .788 .882 .829 .767 .765 .914",
        mean=0.803,
        note=_OTHER_PATIENTS,
        source="Yao et al. 2017, arXiv:1710.10501",
    ),
    _Published(
        name="Wang 2017, v4",
        split=RANDOM,
        same_list=False,
        values=".716 .807 .784 .609 .706 .671 .633 .806 .708 .835 .815 .769 .708 .767",
        mean=0.738,
        note=_OTHER_PATIENTS,
        source="Wang et al. 2017, arXiv:1705.02315v4",
    ),
    _Published(
        name="Wang 2017",
        split=OFFICIAL,
        same_list=True,
        values=".700 .810 .759 .661 .693 .669 .658 .799 .703 .805 .833 .786 .684 .872",
        mean=0.7451,
        note="ResNet-50",
        source="Wang et al. 2017, arXiv:1705.02315, table 17",
    ),
    _Published(
        name="SwinCheX",
        split=OFFICIAL,
        same_list=True,
        values="",
        mean=0.810,
        note="Swin-L, 224 px",
        source="Taslimi et al. 2022, arXiv:2206.04246",
    ),
    _Published(
        name="Medical-MAE, DenseNet-121",
        split=OFFICIAL,
        same_list=True,
        values="",
        mean=0.822,
        note="224 px, chosen on test",
        source="https://github.com/lambert-x/Medical_MAE",
    ),
    _Published(
        name="EVA-X-B",
        split=OFFICIAL,
        same_list=True,
        values="",
        mean=0.835,
        note="ViT-B, 224 px, chosen on test",
        source="https://github.com/hustvl/EVA-X",
    ),
)
