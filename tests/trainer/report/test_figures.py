"""Figures: what they say, how they are embedded, what survives gaps."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from report_samples import entry, evaluation, of_format_2, undefined

from trainer.report import evaluation_figures, history_figures, scaling_figures
from trainer.report.drawing import COLOURS, INK, TICK_PX, as_png, as_svg, look
from trainer.report.evaluation_files import PLOTS
from trainer.report.forest import NARROW
from trainer.report.labels import text_width


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
    drawings = [
        *evaluation_figures.rocs(document["findings"]),
        *evaluation_figures.precision_recalls(document["findings"]),
    ]
    svgs = [
        as_svg(one)
        for one in [
            *drawings,
            evaluation_figures.auroc_forest(document),
            evaluation_figures.auroc_forest(document, NARROW),
        ]
    ]
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


def test_an_axis_of_one_epoch_has_no_fractions_of_it():
    """From .96 to 1.04 there is nothing to see."""
    for epochs in (1, 2, 6, 200):
        axes = history_figures.loss_curves([entry(n) for n in range(1, epochs + 1)]).figure.axes[0]
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
        assert len(ticks) <= 7
        assert low <= 1
        assert high >= epochs
    axes = history_figures.loss_curves([{"epoch": 0.4, "train_loss": 1.0}]).figure.axes[0]
    low, high = axes.get_xlim()
    assert low <= 0
    assert high >= 1


@pytest.mark.parametrize("share", [0.0, 1e-7, 0.00003, 0.02, 0.5, 1.0])
def test_labels_of_shares_of_time_are_in_the_figure(share):
    """`00300%` was 0.00300%, cut on the left."""
    axes = history_figures.data_wait([entry(1) | {"data_wait_share": share, "utilisation": None}]).figure.axes[0]
    assert axes.get_ylim()[1] >= 0.05, "what is hardly spent is no curve over the whole height"
    labels = ticks_of(axes)
    assert all(re.fullmatch(r"[\d.]{1,4}\u00a0%", label) for label in labels), labels
    assert has_room(axes, labels)


@pytest.mark.parametrize("value", [1e-9, 3e-5, 0.41234567, 12345.678, 3.2e8])
def test_labels_of_values_are_in_the_figure(value):
    """Whatever the loss or the speed."""
    entries = [entry(1) | {"train_loss": value, "images_per_s": value}, entry(2) | {"train_loss": value * 1.0001}]
    for drawing in (history_figures.loss_curves(entries), history_figures.throughput(entries)):
        axes = drawing.figure.axes[0]
        assert has_room(axes, ticks_of(axes))
    models = {"vgg16": [(1, value), (64, value / 60)]}
    for drawing in (scaling_figures.elapsed_by_workers(models), scaling_figures.efficiency_by_workers(models)):
        assert has_room(drawing.figure.axes[0], ticks_of(drawing.figure.axes[0]))


def ticks_of(axes):
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    return axes.yaxis.get_major_formatter().format_ticks(ticks)


def has_room(axes, labels):
    return (
        max(text_width(label, TICK_PX) for label in labels) + 8
        <= axes.get_position().x0 * axes.figure.get_figwidth() * 72
    )


def test_sizes_far_apart_have_labels_that_do_not_touch():
    """1, 2 and 4 of 128 workers lie within the width of one digit."""
    sizes = [1, 2, 4, 8, 16, 32, 64, 128]
    axes = scaling_figures.elapsed_by_workers({"a": [(size, 100.0 / size) for size in sizes]}).figure.axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[-1] == "128"
    assert 3 <= len(labels) < len(sizes)


def test_many_lines_look_different():
    """More than six runs are compared: the seventh must not be the first again."""
    looks = [tuple(look(nth).values()) for nth in range(36)]
    assert len(set(looks)) == 36


def test_reliability_bins_have_their_interval():
    """A bin of four images says little."""
    plain, barred = evaluation(("Mass",)), of_format_2(evaluation(("Mass",)))
    assert count_of_lines(barred) == count_of_lines(plain) + 20


def count_of_lines(document):
    return len(evaluation_figures.reliabilities(document["findings"])[0].figure.axes[0].lines)


def test_decision_curve_is_beside_treating_all_and_none():
    """Net benefit alone says nothing. Source: Vickers & Elkin 2006: treating all has p - (1 - p) t / (1 - t)."""
    document = of_format_2(evaluation(("Mass", "Hernia")))
    document["findings"].append(undefined("Edema"))
    drawings = evaluation_figures.decisions(document["findings"])
    assert len(drawings) == 2
    axes = drawings[0].figure.axes[0]
    share = document["findings"][0]["prevalence"]
    none, everyone, model = axes.lines
    assert list(none.get_ydata()) == [0, 0]
    at = np.argmin(np.abs(everyone.get_xdata() - 0.1))
    assert everyone.get_ydata()[at] == pytest.approx(share - (1 - share) * 0.1 / 0.9)
    assert list(model.get_ydata()) == document["findings"][0]["net_benefit"]["y"]
    assert -0.2 * share < axes.get_ylim()[0] < 0 < share <= axes.get_ylim()[1]
    assert axes.get_xlim()[1] == pytest.approx(1.01)
    assert "net benefit" in drawings[0].alt
    curve = document["findings"][1]["net_benefit"]
    curve["y"] = [y if x < 0.15 else 0.0 for x, y in zip(curve["x"], curve["y"], strict=True)]
    rare = evaluation_figures.decisions(document["findings"])[1].figure.axes[0]
    assert rare.get_xlim()[1] == pytest.approx(0.202), "where there is a benefit"
    assert evaluation_figures.decisions(evaluation(("Mass",))["findings"]) == []


def test_subgroups_that_are_not_scored_are_not_drawn():
    """An AUROC of three patients is no bar."""
    document = evaluation(("Mass",))
    document["subgroups"][0] |= {"patients": 3, "mean_auroc": {"value": 0.0, "low": 0.0, "high": 0.0}}
    drawing = evaluation_figures.subgroups_forest(document)
    assert len(bars(drawing)) == len(document["subgroups"]), "all and three of four"
    assert "0.000 (3 patients)" in drawing.alt
    extended = of_format_2(evaluation(("Mass",)))
    assert "view AP" not in evaluation_figures.subgroups_forest(extended).alt
    for group in extended["subgroups"]:
        group["not_scored"] = "3 patients"
    assert evaluation_figures.subgroups_forest(extended) is None


def bars(drawing):
    return [line for line in drawing.figure.axes[0].lines if len(set(line.get_xdata())) > 1]
