"""Labels evaluated with findings of other names: `--rename "Nodule or mass=Nodule|Mass"`."""

from collections.abc import Sequence

from trainer.errors import InputError

FLAG = "--rename"


def parsed(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Findings of the predictions by label. Raises: InputError for another form, or a label named twice."""
    renamed: dict[str, tuple[str, ...]] = {}
    for text in texts:
        label, sign, right = text.partition("=")
        label, findings = label.strip(), tuple(name.strip() for name in right.split("|"))
        if not sign or not label or not all(findings):
            raise InputError(
                f"cannot rename: it must be LABEL=FINDING or LABEL=FINDING|FINDING, got `{text}` (from `{FLAG}`)",
                hint=f'{FLAG} "Nodule or mass=Nodule|Mass"',
            )
        if label in renamed:
            raise InputError(
                f"cannot rename: label `{label}` is named twice, got `{text}` (from `{FLAG}`)",
                hint="join its findings with a bar in one flag",
            )
        renamed[label] = findings
    return renamed
