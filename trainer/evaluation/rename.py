"""Labels evaluated with findings of other names: `--rename "Nodule or mass=Nodule|Mass"`."""

from collections.abc import Sequence

from trainer.label_choices import LabelChoices

FLAG = "--rename"


def parsed(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Findings of the predictions by label. Raises: InputError for another form, or a label named twice."""
    return LabelChoices(rename=tuple(texts)).renamed()
