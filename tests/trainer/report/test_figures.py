"""Figures: what they say, how they are embedded, what survives gaps."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from report_samples import entry, evaluation, undefined

from trainer.commands.evaluate import PLOTS
from trainer.report import evaluation_figures, history_figures, scaling_figures
from trainer.report.drawing import COLOURS, INK, as_png, as_svg
from trainer.report.forest import NARROW


@pytest.fixture(scope="module")
def document():
    return evaluation(("Mass", "Pleural_Thickening"))


def luminance(colour):
    """Of `#rrggbb`. Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("paper", ["#ffffff", "#14181c"], ids=["light", "dark"])
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_of_data_show_on_light_and_dark_pages(colour, paper):
    """WCAG 2.2 asks for a contrast of 3 between graphics and what they lie on."""
    low, high = sorted([luminance(colour), luminance(paper)])
    assert (high + 0.05) / (low + 0.05) >= 3


def test_a_figure_is_the_same_bytes_each_time(document):
    """A report that is written again must not differ where nothing has changed."""
    assert as_svg(evaluation_figures.rocs(document["findings"])[0]) == as_svg(
        evaluation_figures.rocs(document["findings"])[0]
    )
    assert as_png(evaluation_figures.auroc_forest(document)) == as_png(evaluation_figures.auroc_forest(document))


def test_an_embedded_figure_takes_the_colour_and_fonts_of_its_page(document):
    """Black text on a dark page is no text; an own style would be refused by the page's policy."""
    svg = as_svg(evaluation_figures.reliabilities(document["findings"])[0])
    assert "currentColor" in svg
    assert INK not in svg
    assert "#000000" not in svg
    for word in ("style", "font-family", "<metadata", "<!--", "http://www.w3.org/1999/xlink/style"):
        assert word not in svg
    assert len(svg) < 12_000


def test_figures_of_one_page_share_no_svg_id(document):
    """In one page, the second figure would be cut by the first one's frame."""
    drawings = [*evaluation_figures.rocs(document["findings"]), *evaluation_figures.precision_recalls(document["findings"])]
    svgs = [as_svg(one) for one in [*drawings, evaluation_figures.auroc_forest(document), evaluation_figures.auroc_forest(document, NARROW)]]
    ids = [name for svg in svgs for name in re.findall(r'\bid="([^"]+)"', svg)]
    assert ids
    assert len(ids) == len(set(ids))
    for svg in svgs:
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) == set(re.findall(r'\bid="([^"]+)"', svg))


def test_alternative_text_of_a_figure_holds_its_numbers(document):
    """Who can't see it reads, or hears, the same."""
    one = document["findings"][0]
    auroc = one["auroc"]
    numbers = f"{auroc['value']:.3f}, 95 % interval {auroc['low']:.3f} to {auroc['high']:.3f}"
    assert numbers in evaluation_figures.rocs([one])[0].alt
    assert f"{auroc['value']:.3f}" in evaluation_figures.auroc_forest(document).alt
    alt = history_figures.loss_curves([entry(1), entry(2)]).alt
    assert "training: from 0.4 at epoch 1 to 0.2 at epoch 2" in alt
    assert "validation: from 0.24 at epoch 1 to 0.23 at epoch 2" in alt
    assert "4 workers 12 s" in scaling_figures.elapsed_by_workers({"vgg16": [(1, 40.0), (4, 12.0)]}).alt


def test_published_values_are_drawn_for_the_same_images_only(document):
    """A number of another split in the same figure reads as a comparison."""
    svg = as_svg(evaluation_figures.auroc_forest(document))
    assert "zoogzog" in svg
    assert "Wang" not in svg


def test_class_names_are_escaped_in_figures():
    """Folder names become classes: markup, dollar signs and long names must neither break nor leave the figure."""
    for name in ("<script>alert(1)</script>", "$\\frac{1", "肺炎", "x" * 300):
        one = evaluation((name, "b"))["findings"][0]
        svg = as_svg(evaluation_figures.rocs([one])[0])
        assert "<script" not in svg
        assert len(svg) < 12_000
        as_png(evaluation_figures.rocs([one])[0])


def test_undefined_scores_are_stated_and_not_drawn():
    """A finding without positives in the split has no AUROC: neither 0 nor 0.5."""
    document = evaluation(("Mass",))
    document["findings"].append(undefined("Hernia"))
    for drawing in (
        evaluation_figures.rocs(document["findings"])[1],
        evaluation_figures.precision_recalls(document["findings"])[1],
    ):
        assert "not defined" in as_svg(drawing)
    assert "not defined" in as_svg(evaluation_figures.auroc_forest(document))
    assert "Hernia -" in evaluation_figures.auroc_forest(document).alt
    as_svg(evaluation_figures.reliabilities(document["findings"])[1])


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="none"),
        pytest.param([{"step": 1, "epoch": 1.0}], id="nothing in it"),
        pytest.param([{"step": 1, "epoch": "one", "train_loss": 1.0, "val": 3}], id="damaged"),
        pytest.param([{"step": 1, "epoch": 1.0, "train_loss": float("nan"), "val": {"loss": None}}], id="no numbers"),
    ],
)
def test_history_without_numbers_gives_a_figure_that_says_so(entries):
    """Old and broken runs are reported too."""
    assert history_figures.loss_curves(entries) is None
    assert history_figures.score_curves(entries) is None
    assert history_figures.throughput(entries) is None
    assert history_figures.data_wait(entries) is None
    assert Image.open(io.BytesIO(history_figures.curves_png(entries))).format == "PNG"


def test_a_gap_in_the_history_is_a_gap_in_one_curve_only():
    """Training alone is recorded for the part of an epoch that a limit has ended."""
    entries = [entry(1), {"step": 20, "epoch": 1.3, "train_loss": 0.3, "val": None}]
    alt = history_figures.loss_curves(entries).alt
    assert "at epoch 1.3" in alt.partition("validation")[0]
    assert "at epoch 1.3" not in alt.partition("validation")[2]


def test_curves_show_accuracy_where_the_model_says_one_class():
    """The pneumonia paper's figure is of train loss, test loss and accuracy."""
    with_it, without = (
        history_figures.curves_png([entry(1, accuracy=flag), entry(2, accuracy=flag)]) for flag in (True, False)
    )
    assert with_it != without
    assert "accuracy" in history_figures.score_curves([entry(1, accuracy=True)]).alt
    assert "accuracy" not in history_figures.score_curves([entry(1)]).alt


def test_plots_of_an_evaluation_are_written_as_files(document):
    """For slides and papers, which take no HTML."""
    plots = evaluation_figures.plots(document)
    assert tuple(plots) == PLOTS
    for content in plots.values():
        assert np.asarray(Image.open(io.BytesIO(content)).convert("L")).std() > 5
    assert tuple(evaluation_figures.plots(document | {"subgroups": []})) == PLOTS[:-1]


def test_run_keeps_its_colour_where_another_has_no_such_curve():
    """Read across two panels, a colour that changes hands is an error."""
    runs = {"first": [entry(1)], "second": [entry(1, accuracy=True)]}
    loss = history_figures.overlaid("Validation loss", runs, "val", "loss")
    accuracy = history_figures.overlaid("Validation accuracy", runs, "val", "accuracy", "value")
    colours = [{line.get_label(): line.get_color() for line in one.figure.axes[0].lines} for one in (loss, accuracy)]
    assert colours[0]["second"] == colours[1]["second"] != colours[0]["first"]
