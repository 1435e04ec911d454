"""Files of predictions: what is read, and everything that is refused by name."""

import gzip

import numpy as np
import pytest

from trainer.errors import InputError
from trainer.evaluation.predictions import read

GOOD = "Image Index,prob_B,note,prob_A\nx.png,0.25,seen,1\ny.png,0.5,,0\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "preds.csv"
        path.write_text(text)
        return path

    return write


def test_prediction_columns_are_found_in_any_order_and_others_ignored(file):
    """Public files have them in their author's order, and columns of his own."""
    found = read(file(GOOD)).of(["A", "B"])
    assert found.images == ("x.png", "y.png")
    assert found.probabilities_NK.tolist() == [[1, 0.25], [0, 0.5]]
    assert found.at(["y.png"]).probabilities_NK.tolist() == [[0, 0.5]]
    assert found.rows_in(["y.png", "z.png", "x.png"]).tolist() == [2, 0]


def test_file_with_both_scales_is_read_as_such(file):
    """`raw_…` ranks images and is calibrated; `prob_…` is shown and compared with thresholds."""
    found = read(
        file("Image Index,raw_A,prob_B,prob_A,raw_B,raw_text\nx,0.1,0.6,0.2,0.5,good\ny,0.3,0.8,0.4,0.7,bad\n")
    )
    found = found.of(["A", "B"]).at(["y", "x"])
    assert found.probabilities_NK.tolist() == [[0.3, 0.7], [0.1, 0.5]]
    assert found.calibrated_NK.tolist() == [[0.4, 0.8], [0.2, 0.6]]
    assert found.notes == ()
    joined = found.joined({"A or B": ["A", "B"]})
    assert (joined.probabilities_NK.tolist(), joined.calibrated_NK.tolist()) == ([[0.7], [0.5]], [[0.8], [0.6]])
    both = found.of(["A"]).completed(["A", "no A"])
    assert both.calibrated_NK.tolist() == [[0.4, 1 - 0.4], [0.2, 0.8]]


def test_file_without_raw_columns_is_read_as_uncalibrated_and_says_so(file):
    """Those of earlier runs, and of other programs."""
    found = read(file(GOOD))
    assert found.calibrated_NK is None
    assert found.notes == ("preds.csv: it has no columns `raw_…`, so `prob_…` are read as uncalibrated probabilities",)


def test_file_with_a_raw_column_for_some_findings_only_is_refused(file):
    """Half a table would be on another scale than the other half."""
    with pytest.raises(InputError, match="no column `raw_B` beside `prob_B`"):
        read(file("Image Index,prob_A,prob_B,raw_A\nx,0.1,0.2,0.3\n"))


def test_gzip_compressed_predictions_are_read(tmp_path):
    """22,433 rows are often packed."""
    (tmp_path / "preds.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    assert read(tmp_path / "preds.csv.gz").images == ("x.png", "y.png")


def test_log_odds_of_0_and_1_are_finite_while_probabilities_keep_their_ranks(file):
    """Clipped ones tie, and ties would change AUROC."""
    found = read(file("Image Index,prob_A\na,0\nb,1e-9\nc,2e-9\nd,1\n"))
    assert np.isfinite(found.log_odds_NK).all()
    assert len(set(found.probabilities_NK[:, 0].tolist())) == 4
    assert found.log_odds_NK[3, 0] == pytest.approx(-found.log_odds_NK[0, 0])


def test_log_odds_are_recovered_from_written_probabilities(file):
    """What a run wrote is fitted and judged as in the run, however sure it was; 0 is not surer than the surest."""
    log_odds = np.array([-25.0, -16.5, 0.3, 16.5, 25.0])
    rows = [f"{number},{p!r}\n" for number, p in enumerate((1 / (1 + np.exp(-log_odds))).tolist())]
    found = read(file("".join(["Image Index,prob_A\n", *rows, "none,0\n", "all,1\n"]))).log_odds_NK[:, 0]
    np.testing.assert_allclose(found[:5], log_odds, rtol=1e-5)
    assert np.isfinite(found).all()
    assert found[5] <= found[:5].min()
    assert found[6] >= found[:5].max()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("x.png", '"x.png"').replace("0.25", '"2.5e-1"'),
        lambda text: text.replace("\n", "\n\n").replace(",", " , "),
    ],
    ids=["byte order mark", "line ends of Windows", "quoted", "spaced"],
)
def test_predictions_with_bom_crlf_or_quotes_are_read_alike(tmp_path, change):
    """Spreadsheets and other systems leave their marks."""
    (tmp_path / "preds.csv").write_bytes(change(GOOD).encode())
    found = read(tmp_path / "preds.csv")
    assert (found.images, found.findings) == (("x.png", "y.png"), ("B", "A"))
    assert found.probabilities_NK.tolist() == [[0.25, 1], [0.5, 0]]


@pytest.mark.parametrize(
    "content", [gzip.compress(GOOD.encode())[:-9], GOOD.encode(), b""], ids=["cut", "not packed", "empty"]
)
def test_damaged_gzip_predictions_are_refused(tmp_path, content):
    """A download that ended early holds the first rows, which would be scored as if they were all."""
    (tmp_path / "preds.csv.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"preds\.csv\.gz"):
        read(tmp_path / "preds.csv.gz")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Image Index,prob_A\nx,0.5\ny,nan\n", "line 3: prob_A is not a probability, got `nan`"),
        ("Image Index,prob_A\nx,\n", "line 2: prob_A is not a probability, got ``"),
        ("Image Index,prob_A\nx,1.5\n", "line 2: prob_A is not a probability, got `1.5`"),
        ("Image Index,prob_A\nx,-0.1\n", "line 2: prob_A is not a probability, got `-0.1`"),
        ("Image Index,prob_A\nx,inf\n", "line 2: prob_A is not a probability, got `inf`"),
        ("Image Index,prob_A\nx,0.5\nx,0.5\n", "line 3: `x` is listed twice, first in line 2"),
        ("Image Index,prob_A\n,0.5\n", "line 2: no image"),
        ("Image Index,prob_A\nx,0.5,1\n", "line 2: 3 columns instead of 2"),
        ("Image Index,prob_A\n", "no row"),
        ("", "no column `Image Index`"),
        ("Image Index,A\nx,0.5\n", "no column `prob_…`"),
        ("Image Index;prob_A\nx;0.5\n", "no column `Image Index`"),
        ("Image Index,prob_A\nx,0_1\n", "line 2: prob_A is not a probability, got `0_1`"),
        ("prob_A,path\n0.5,x\n", "no column `Image Index`"),
        ("Image Index,prob_A,prob_A\nx,0.5,0.5\n", "column `prob_A` more than once"),
    ],
)
def test_invalid_prediction_is_refused_with_its_line(file, text, told):
    """A probability that is guessed would be a result."""
    with pytest.raises(InputError) as refused:
        read(file(text))
    assert told in str(refused.value)
    assert "preds.csv" in str(refused.value)


def test_columns_without_labels_are_left_out_and_kept_by_name(file):
    """Public models know other findings than a data set; a column that vanished would look evaluated."""
    found = read(file(GOOD)).of(["A", "C"])
    assert (found.findings, found.unused) == (("A",), ("B",))
    assert found.probabilities_NK.tolist() == [[1], [0]]


def test_joined_findings_have_the_highest_probability(file):
    """A label of a nodule or a mass is predicted by whichever is likelier."""
    found = read(file("Image Index,prob_Nodule,prob_Mass,prob_Hernia\nx,0.25,0.5,0\ny,0.75,0.125,1\n"))
    joined = found.joined({"Nodule or mass": ("Nodule", "Mass"), "Mass": ("Mass",)})
    assert joined.findings == ("Hernia", "Nodule or mass", "Mass")
    assert joined.probabilities_NK.tolist() == [[0, 0.5, 0.5], [1, 0.75, 0.125]]
    assert joined.notes[1:] == ("preds.csv: Nodule or mass is the highest of `prob_Nodule` and `prob_Mass`",)
    with pytest.raises(
        InputError, match=r"findings without predictions, got .*preds.csv` \(from `--rename`\)\n  no column `prob_Gout`"
    ):
        found.joined({"Any": ("Gout", "Mass")})
    assert found.joined({"Any": ("Gout", "Mass")}, require_all=False).findings == ("Nodule", "Hernia")


def test_findings_spelled_otherwise_are_recognised(file):
    """Every group writes Pleural_Thickening in its own way; left out, its mean would be of other findings."""
    found = read(file("Image Index,prob_Pleural Thickening,prob_edema,prob_Mass,prob_mass\nx,0.25,0.5,0,1\n"))
    spelled = found.spelled(["Edema", "Mass", "Pleural_Thickening"])
    assert spelled.findings == ("Pleural_Thickening", "Edema", "Mass", "mass")
    assert spelled.notes[1:] == (
        "preds.csv: `prob_Pleural Thickening` is taken for Pleural_Thickening",
        "preds.csv: `prob_edema` is taken for Edema",
    )
    assert "edema" in found.spelled(["E dema", "Edema"]).findings
    twice = read(file("Image Index,prob_edema,prob_EDEMA\nx,0.25,0.5\n"))
    assert twice.spelled(["Edema"]).findings == ("edema", "EDEMA")


def test_one_column_of_two_classes_gives_the_other(file):
    """Many programs write the probability of the second class only."""
    found = read(file("Image Index,prob_B\nx,0.25\ny,1\n"))
    both = found.completed(["A", "B"]).of(["A", "B"])
    assert both.probabilities_NK.tolist() == [[0.75, 0.25], [0, 1]]
    assert both.notes[1:] == ("preds.csv: no column `prob_A`, used is 1 - `prob_B`",)
    assert found.completed(["A", "B", "C"]) is found
    assert both.completed(["A", "B"]) is both


def test_images_get_the_names_of_the_labels(file):
    """`predict` writes paths as they were given."""
    found = read(file("Image Index,prob_A\n/data/x.png,0.5\ny.png,1\n")).named(["y.png", "x.png"])
    assert found.images == ("x.png", "y.png")
    assert found.notes[1:] == (
        "preds.csv: 1 of 2 images have other folders in their names than in the labels, and were matched by file name",
    )
    assert found.named(["x.png"]).notes == found.notes


def test_missing_columns_and_images_are_named(file):
    """Whoever made the file must find what to correct."""
    found = read(file(GOOD))
    with pytest.raises(
        InputError, match=r"no column is for one of the labels, got .* with columns for B, A and labels C"
    ):
        found.of(["C"])
    with pytest.raises(InputError, match=r"1 of 2 images are missing(.|\n)*z.png"):
        found.at(["x.png", "z.png"])
    with pytest.raises(InputError, match=r"1 of 2 images have no labels(.|\n)*y.png"):
        found.rows_in(["x.png"])
