"""The form of `--rename`."""

import pytest

from trainer.errors import InputError
from trainer.evaluation.rename import parsed


def test_labels_and_their_findings_are_read():
    """Names have blanks; some have a sign of their own."""
    assert parsed(["Nodule or mass=Nodule|Mass", " Effusion = Pleural Effusion "]) == {
        "Nodule or mass": ("Nodule", "Mass"),
        "Effusion": ("Pleural Effusion",),
    }
    assert parsed([]) == {}


@pytest.mark.parametrize("text", ["Nodule", "=Nodule", "A=", "A=B|", "A=|B", ""])
def test_other_forms_are_refused_with_the_flag(text):
    """An empty name would be looked for in a file of gigabytes."""
    with pytest.raises(InputError, match=r"it must be NEW=OLD .*\(from `--rename`\)"):
        parsed([text])


def test_label_named_twice_is_refused():
    """The second would replace the first."""
    with pytest.raises(InputError, match="`A` is named twice"):
        parsed(["A=B", "A=C"])
