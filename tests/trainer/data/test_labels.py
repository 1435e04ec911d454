"""Tables of labels: hashes and the published findings."""

from label_tables import table

from trainer.data.labels import FINDINGS


def test_hashes_differ_for_other_splits_and_labels():
    """run.json must show when a resumed or compared run had other data."""
    one = table([0, 1], [[1, 0], [0, 1]], split=[0, 2])
    other_split = table([0, 1], [[1, 0], [0, 1]], split=[2, 0])
    other_labels = table([0, 1], [[1, 1], [0, 1]], split=[0, 2])
    assert one.split_sha256() != other_split.split_sha256()
    assert one.labels_sha256() == other_split.labels_sha256()
    assert one.labels_sha256() != other_labels.labels_sha256()


def test_there_are_fourteen_findings_in_published_order():
    """The label lists have no header: order is all there is."""
    assert len(FINDINGS) == 14
    assert (FINDINGS[0], FINDINGS[6], FINDINGS[13]) == ("Atelectasis", "Pneumonia", "Hernia")
