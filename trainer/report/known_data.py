"""What is known of public data sets beyond their files: terms, reference standard and shortcuts; only of these sets.

Source: computed from the public label files, or from the papers named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trainer.data.public import KERMANY, NIH, PHANTOMS
from trainer.evaluation.document import Evaluation
from trainer.evaluation.reference import OFFICIAL, RANDOM


@dataclass(frozen=True)
class KnownData:
    """Sentences about one data set."""

    name: str
    terms: str
    reference_standard: str
    """How its labels were made, and by whom."""
    shortcuts: tuple[str, ...]
    """What a model may have learned instead of the findings, and limits of the labels."""


_PHANTOMS: Final = KnownData(
    name="synthetic phantoms",
    terms="**The images are synthetic phantoms, not X-rays**: this model has learned nothing about patients.",
    reference_standard="the findings that were drawn",
    shortcuts=("Phantoms have none of the shortcuts of X-rays: results on them say nothing about X-rays.",),
)

_OTHER_DATA: Final = KnownData(
    name="not recognised as a public data set",
    terms="The terms of the data's owner also apply to this model.",
    reference_standard="not stated: fill in `reference_standard`",
    shortcuts=(
        "Views, devices, markers and borders of one ward or source may be learned as signs of its patients' disease.",
        "Labels have errors, too: a high score is agreement with these labels.",
        "Models usually score lower on images from other hospitals than on those of the hospital they were trained on.",
    ),
)

NIH_DATA: Final = KnownData(
    name="ChestX-ray14 of the NIH Clinical Center, or a part of it",
    terms=(
        "ChestX-ray14: its use is not restricted; the NIH asks to link <https://nihcc.app.box.com/v/ChestXray-NIHCC>, to cite "
        "Wang et al., CVPR 2017, and to acknowledge the NIH Clinical Center as the provider."
    ),
    reference_standard=(
        "findings extracted from radiology reports by natural language processing, not read from the images "
        "(Wang et al., CVPR 2017)"
    ),
    shortcuts=(
        (
            "View: bedside (AP) images are of sicker patients. In ChestX-ray14 the view alone gives an AUROC of .73 for edema and .65 "
            "for consolidation."
        ),
        "Treatment: many images with pneumothorax show the chest drain that treats it, and a model may detect the drain instead.",
        (
            "Labels were extracted from reports by a program. Compared with radiologists' readings of the images, labels of pneumothorax have "
            "a precision of .485 and a recall of .497 (Majkowska et al., 2020); a high AUROC is agreement with the reports."
        ),
        "One hospital: models score lower on images from elsewhere (.865 to .823 on six findings, from NIH to CheXpert, in one published run).",
        "Results on different splits by patient are not comparable: NIH's official test set is harder than the 70/10/20 lists by about .03.",
    ),
)

_KERMANY: Final = KnownData(
    name="the paediatric pneumonia set of Kermany et al., or a part of it",
    terms="Kermany et al., Cell 2018 (chest X-rays of children, one to five years old, Guangzhou): CC BY 4.0.",
    reference_standard=(
        "graded by two expert physicians; the evaluation set was also checked by a third expert (Kermany et al., Cell 2018)"
    ),
    shortcuts=(
        (
            "Image size: in the pneumonia set the number of pixels alone predicts the class with an AUROC of .92, and the aspect "
            "ratio with .88; squashing images to a square keeps the aspect ratio as distortion."
        ),
        "Children of one hospital, one to five years old: results say nothing about adults.",
        "All classes rarely come from one source: markers, borders and devices of one ward may be learned as signs of its patients' disease.",
    ),
)

_KNOWN: Final = {PHANTOMS: _PHANTOMS, NIH: NIH_DATA, KERMANY: _KERMANY}


def known_data(record: Mapping[str, Any] | None, evaluation: Evaluation | None) -> KnownData:
    """What is known of the data set of this run, also of a run of an earlier version, which did not record its name."""
    if evaluation is not None and evaluation["data"].get("drawn"):
        return _PHANTOMS
    if record is not None and "data_set" in record:
        return _KNOWN.get(str(record["data_set"]), _OTHER_DATA)
    return NIH_DATA if evaluation is not None and _is_nih(evaluation) else _OTHER_DATA


def _is_nih(evaluation: Evaluation) -> bool:
    """Whether the evaluated images are a published list of ChestX-ray14, or some labels those of one of its editions only."""
    edition = evaluation["data"].get("edition") or ""
    is_by_rows = edition.startswith(("2017", "v2020", "mixed")) and "by the name of its file" not in edition
    return evaluation["data"]["split"] in {OFFICIAL, RANDOM} or is_by_rows
