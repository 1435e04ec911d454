"""Sentences about a run's data set, from run.json: what it lacks, what is in it twice, and how patients are kept apart."""

from collections.abc import Mapping
from typing import Any

from trainer.data.duplicates import in_words
from trainer.report.formatting import count


def kept_apart(record: Mapping[str, Any]) -> str:
    """Whether a patient may be in two splits."""
    unknown, images = record.get("unidentified_patients", 0), record.get("images")
    if not unknown:
        return "no patient is in two splits."
    which = "all images" if unknown == images else f"{count(unknown)} of {count(images)} images"
    return f"split by image: the patients of {which} are unknown, and a patient may be in two splits."


def incomplete(record: Mapping[str, Any]) -> list[str]:
    """What the data set of the run lacks, and what is in it twice."""
    notes = []
    if record.get("unidentified_patients"):
        notes.append(f"The data set is {kept_apart(record)}")
    if record.get("left_out_findings"):
        names = ", ".join(record["left_out_findings"])
        notes.append(f"Not trained, as all training images have the same value: {names}.")
    if record.get("missing_images"):
        present = ", ".join(record.get("present", []))
        notes.append(
            f"{count(record['missing_images'])} images of the label files were missing; present were {present}."
        )
    if record.get("not_read"):
        notes.append(f"{count(record['not_read'])} files look like images but have another suffix; they were not read.")
    equal = in_words(record.get("duplicates") or [])
    return notes if equal is None else [*notes, f"{equal}."]


def duplicates_in_test(record: Mapping[str, Any]) -> str | None:
    """A warning where a tested image is also in another split; None otherwise."""
    equal = [group for group in record.get("duplicates") or [] if "test" in group.values()]
    if not equal:
        return None
    what = "One test image has" if len(equal) == 1 else f"{count(len(equal))} test images have"
    return f"{what} the pixels of an image in another split: the scores on test are too optimistic."
