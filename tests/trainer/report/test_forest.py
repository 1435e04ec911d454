"""Forest plots: what is drawn as certain, and that words have room."""

import pytest
from report_samples import interval

from trainer.report.drawing import TICK_PX, as_svg
from trainer.report.forest import NARROW, WIDE, Marks, Row, both, forest
from trainer.report.labels import text_width

NOTHING = {"value": None, "low": None, "high": None}


def bars(drawing):
    """Lines with a length, which are intervals."""
    return [line for line in drawing.figure.axes[0].lines if len(set(line.get_xdata())) > 1]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_numbers_that_are_not_sure_have_no_bar(width):
    """Without an interval, with one of a single number, or of few patients: a hollow mark alone."""
    rows = [
        Row("sure", interval(0.8)),
        Row("none", {"value": 0.7, "low": None, "high": None}),
        Row("single", {"value": 1.0, "low": 1.0, "high": 1.0}),
        Row("few", interval(0.6), is_sure=False, remark="0.600 (3 patients)"),
        Row("undefined", NOTHING),
    ]
    drawing = forest("AUROC", rows, width=width)
    assert len([line for line in bars(drawing) if line.get_linewidth() > 2]) == 1
    marks = [line for line in drawing.figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "none" for line in marks] == [False, True, True, True]
    svg = as_svg(drawing)
    for words in ("0.700 (no interval)", "0.600 (3 patients)", "not defined"):
        assert words in svg
    assert "few 0.600 (3 patients)" in drawing.alt


@pytest.mark.parametrize("count", [1, 2, 20])
def test_both_widths_have_room_for_their_words(count):
    """Names and numbers beside or above the marks, and what is drawn between."""
    rows = [Row(f"finding of the left lower lobe, number {n}", interval(-0.1, 0.02)) for n in range(count)]
    for drawing in both("Difference", rows, reference=0.0, others=[Marks("x" * 90, [0.1] * count)]):
        axes, width = drawing.figure.axes[0], drawing.figure.get_figwidth() * 72
        box = axes.get_position()
        left, right = box.x0 * width, (1 - box.x1) * width
        ticks = [label.get_text() for label in axes.get_yticklabels()]
        assert all(text_width(label, TICK_PX) <= left for label in ticks)
        if ticks:
            assert text_width(rows[0].text, TICK_PX) + 12 <= right
        assert (box.x1 - box.x0) * width > 250


def test_plot_of_nothing_defined_is_drawn():
    """Each finding is absent from the split."""
    for drawing in both("AUROC", [Row("Mass", NOTHING), Row("mean", NOTHING)]):
        assert as_svg(drawing).count("not defined") == 2
