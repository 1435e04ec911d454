"""Terms of public data sets, which records made from their images carry on."""

from typing import Final

_NIH: Final = """\
ChestX-ray14. The images were provided by the NIH Clinical Center.
Download site: https://nihcc.app.box.com/v/ChestXray-NIHCC
Please cite: Xiaosong Wang, Yifan Peng, Le Lu, Zhiyong Lu, Mohammadhadi Bagheri, Ronald M. Summers. ChestX-ray8: Hospital-scale
Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and Localization of Common Thorax Diseases.
IEEE CVPR 2017, pp. 3462-3471.
"""

_STANFORD: Final = """\
CheXpert, Stanford University. Its research use agreement allows no redistribution, and holds for these records too.
Please cite: Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison. AAAI 2019.
"""

_MIMIC: Final = """\
MIMIC-CXR, PhysioNet. Its credentialed data use agreement allows no sharing with others, and holds for these records too.
Please cite: Johnson et al., MIMIC-CXR, a de-identified publicly available database of chest radiographs with free-text reports.
Scientific Data 6, 317 (2019).
"""

_PADCHEST: Final = """\
PadChest, BIMCV. Its research use agreement holds for these records too.
Please cite: Bustos et al., PadChest: A large chest x-ray image dataset with multi-label annotated reports.
Medical Image Analysis 66 (2020) 101797.
"""

_VINDR: Final = """\
VinDr-CXR, PhysioNet. Its credentialed data use agreement allows no sharing with others, and holds for these records too.
Please cite: Nguyen et al., VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations. Scientific Data 9, 429 (2022).
"""

_RSNA: Final = """\
RSNA Pneumonia Detection Challenge. The images are from ChestX-ray14, provided by the NIH Clinical Center:
https://nihcc.app.box.com/v/ChestXray-NIHCC
Please cite: Shih et al., Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of
Possible Pneumonia. Radiology: Artificial Intelligence 1(1), 2019; and Wang et al., ChestX-ray8, IEEE CVPR 2017.
"""

_UNKNOWN: Final = "The origin of these images is not known to the program that prepared them. Their terms of use hold for these records too.\n"

_BY_LAYOUT: Final = {
    "nih": _NIH,
    "chexpert": _STANFORD,
    "mimic-cxr": _MIMIC,
    "padchest": _PADCHEST,
    "vindr": _VINDR,
    "rsna": _RSNA,
}
"""Of data sets in the layout of a publisher. A set of phantoms or of a hospital's own images in it is named as what its files look like."""


def notice(layout: str) -> str:
    """Text of NOTICE.txt for records of a data set in this layout."""
    terms = _BY_LAYOUT.get(layout)
    if terms is None:
        return _UNKNOWN
    return f"The label files have the layout of this data set; if the images are its own, its terms hold for these records too.\n\n{terms}"
