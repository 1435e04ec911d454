"""Labels that are cut: they fit, and no two different names become one."""

import pytest

from trainer.report.labels import fitted, text_width

PREFIX = "densenet121-on-the-whole-data-set-with-dropout-and-seed-"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"{PREFIX}{n}" for n in range(12)], id="differ at the end"),
        pytest.param([f"{n}{PREFIX}" for n in range(12)], id="differ at the start"),
        pytest.param([f"{PREFIX}{n}-{PREFIX}" for n in range(12)], id="differ in the middle"),
        pytest.param(["W" * 40 + str(n) for n in range(3)], id="wide letters"),
        pytest.param(["肺炎球菌性肺炎" * 4 + str(n) for n in range(3)], id="wide script"),
        pytest.param(["x" * 300], id="one long"),
        pytest.param([f"{'x' * 80}{n}{'x' * 80}" for n in range(5)], id="no word to end at"),
        pytest.param(["a", PREFIX, ""], id="short, long and empty"),
    ],
)
@pytest.mark.parametrize("width", [90.0, 134.0, 236.0])
def test_labels_fit_and_stay_different(names, width):
    """A legend of eight equal entries names nothing."""
    shown = fitted(names, width, 10.5)
    assert len(shown) == len(names)
    assert all(text_width(label, 10.5) <= width for label in shown), shown
    assert len(set(shown)) == len(set(names)), shown


def test_short_labels_stay_as_they_are():
    """Only those that are too wide are cut."""
    assert fitted(["vgg16", "densenet121"], 90, 10.5) == ["vgg16", "densenet121"]
    assert fitted(["mean", f"{PREFIX}7"], 134, 10.5)[0] == "mean"
    assert fitted([f"{PREFIX}7"], 134, 10.5)[0].endswith("seed-7")
    assert fitted(["same", "same"], 90, 10.5) == ["same", "same"]
    assert fitted([], 90, 10.5) == []


def test_wide_letters_count_in_full():
    """DejaVu Sans has no letters of many scripts, but the reader's browser has."""
    assert text_width("肺炎", 10) == 20
    assert text_width("ab肺", 10) == pytest.approx(text_width("ab", 10) + 10)
