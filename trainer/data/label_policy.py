"""From the labels that a layout reads to those that a model is trained and evaluated on.

A layout's labels are 1, 0, -1 for uncertain, NaN for blank, and fractions; afterwards there are 1, 0, NaN for unknown,
and fractions. Findings are renamed and joined first, then chosen, and then uncertain and blank labels are decided. What was done
is kept, so that it can be stated wherever results are.

Shapes: N images, K findings.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from trainer.config import flag_of
from trainer.data.finding_names import same_finding, similar
from trainer.data.label_cells import UNCERTAIN
from trainer.data.labels import LabelTable
from trainer.errors import InputError, listing, on_one_line
from trainer.formats.documents import LabelPolicy, UsedLabels, UsedProjections
from trainer.label_choices import FRONTAL, POLICIES, LabelChoices, policy_word

_OF_RUN: Final = "the model's run"

_ONLY: Final = {"valid_as": "chexpert", "readers": "vindr", "physician_labels_only": "padchest"}
"""Choices that one layout has."""


@dataclass(frozen=True)
class LayoutDefaults:
    """What a layout does where nothing is chosen."""

    layout: str
    uncertain: str | None = None
    """A word of `POLICIES`; None for a layout without uncertain labels."""
    blank: str | None = None
    """`zeros` or `ignore`; None for a layout without blank labels."""
    is_prepared: bool = False
    """Whether the labels are those of a prepared set, which was read in this layout when it was prepared."""


@dataclass(frozen=True)
class Resolved:
    """The labels to use, with what was done to them."""

    table: LabelTable
    rows_N: NDArray[np.int64]
    """Rows of the layout's table that are used."""
    policy: LabelPolicy
    """Empty where labels are used as they are."""


def resolved(
    raw: LabelTable,
    defaults: LayoutDefaults,
    choices: LabelChoices,
    of_run: LabelChoices | None = None,
) -> Resolved:
    """The labels of a layout as chosen.

    Choices of a model's run are used where none are made, as far as they fit the data set.

    Raises: InputError for choices that do not fit the data set.
    """
    check_layout(choices, defaults)
    _check_labels(choices, raw)
    inherited = LabelChoices() if of_run is None else _fitting(of_run, raw, defaults)
    both = choices.over(inherited)
    rows_N, projection = _projected(raw, both)
    table = raw if len(rows_N) == len(raw) else _rows_of(raw, rows_N)
    whole = _renamed(table, both)
    table = _chosen(whole, both)
    _check_findings(choices, table.findings)
    raw_NK, labels_NK = table.labels_NK, table.labels_NK.copy()
    uncertain, blank = _uncertain(choices, inherited, defaults), _blank(choices, inherited, defaults)
    policy: LabelPolicy = {
        "renamed": {new: list(old) for new, old in both.renamed().items()},
        "not_used": [name for name in whole.findings if name not in table.findings],
        "uncertain": _decided(labels_NK, raw_NK == UNCERTAIN, table.findings, uncertain),
        "blank": _decided(labels_NK, np.isnan(raw_NK), table.findings, blank),
        "soft": _counted((raw_NK > 0) & (raw_NK < 1), table.findings),
        "projection": projection,
    }
    stated = cast("LabelPolicy", {key: value for key, value in policy.items() if value})
    return Resolved(replace(table, labels_NK=labels_NK), rows_N, stated)


def unresolved(raw: LabelTable) -> Resolved:
    """The labels as the layout reads them, undecided."""
    return Resolved(raw, np.arange(len(raw), dtype=np.int64), {})


def joined(labels_NJ: NDArray[np.float32]) -> NDArray[np.float32]:
    """Labels [N] of a finding that an image has if it has any of the J joined ones.

    1 where one of them is 1; the highest where all are known; otherwise uncertain where one of them is, and else unknown.
    """
    highest_N = np.where(np.isnan(labels_NJ), UNCERTAIN, labels_NJ).max(axis=1)
    is_uncertain_N = (labels_NJ == UNCERTAIN).any(axis=1)
    is_known_N = (labels_NJ >= 0).all(axis=1)  # False for NaN
    unknown_N = np.where(is_uncertain_N, UNCERTAIN, np.nan)
    return np.where((highest_N == 1) | is_known_N, highest_N, unknown_N).astype(np.float32)


def _rows_of(table: LabelTable, rows_N: NDArray[np.int64]) -> LabelTable:
    images = tuple(table.images[row] for row in rows_N.tolist())
    return replace(
        table,
        images=images,
        patients_N=table.patients_N[rows_N],
        labels_NK=table.labels_NK[rows_N],
        split_N=table.split_N[rows_N],
        unidentified=table.unidentified.intersection(images),
        views=None if table.views is None else tuple(table.views[row] for row in rows_N.tolist()),
    )


def check_layout(choices: LabelChoices, defaults: LayoutDefaults) -> None:
    """Refuse choices that this layout would ignore."""
    layout = f"layout {defaults.layout}"
    for name, only in _ONLY.items():
        if name in choices.given() and defaults.is_prepared:
            raise InputError(
                f"cannot use {flag_of(name)}: this choice was made when the data set was prepared",
                hint=f"remove {flag_of(name)}, or prepare the data set again with it",
            )
        if name in choices.given() and defaults.layout != only:
            raise _unfit(flag_of(name), f"only layout {only} has it, not {defaults.layout}")
    if choices.uncertain and defaults.uncertain is None:
        raise _unfit("--uncertain", f"{layout} has no uncertain labels")
    if choices.blank and defaults.blank is None:
        raise _unfit("--blank", f"{layout} has no blank labels")


def _check_labels(choices: LabelChoices, raw: LabelTable) -> None:
    """Refuse policies of labels that the data set, though its layout may, does not have."""
    if choices.uncertain and not (raw.labels_NK == UNCERTAIN).any():
        raise _unfit("--uncertain", "no label of the data set is uncertain")
    if choices.blank and not np.isnan(raw.labels_NK).any():
        raise _unfit("--blank", "no label of the data set is blank")


def _unfit(flag: str, reason: str) -> InputError:
    return InputError(f"cannot use {flag}: {reason}", hint=f"remove {flag}")


def _fitting(of_run: LabelChoices, raw: LabelTable, defaults: LayoutDefaults) -> LabelChoices:
    """The choices of a model's run that fit this data set; its findings are the model's outputs, and chosen later."""
    of_set = set(raw.findings)
    names = {new: old for new, old in of_run.renamed().items() if set(old) <= of_set and new not in of_set}
    there = {*of_set, *names}.difference(*names.values())
    uncertain = of_run.uncertain_policies() if defaults.uncertain is not None else {}
    return LabelChoices(
        rename=tuple(f"{new}={'|'.join(old)}" for new, old in names.items()),
        uncertain=tuple(
            policy_word(value) if name is None else f"{name}={policy_word(value)}"
            for name, value in uncertain.items()
            if name is None or name in there
        ),
        blank=of_run.blank if defaults.blank is not None else None,
        projection=None if raw.views is None else of_run.projection,
    )


def _projected(raw: LabelTable, choices: LabelChoices) -> tuple[NDArray[np.int64], UsedProjections]:
    """Rows of the images of the chosen projections, with a statement of what is left out."""
    images, views = len(raw), raw.views
    every_N = np.arange(images, dtype=np.int64)
    chosen, used = choices.projections(), choices.projection or "all"
    if views is None:
        if chosen is not None:
            raise _unfit(f"--projection {used}", "the data set does not tell the projection of its images")
        return every_N, {}
    view_N = np.array(views, np.str_)
    if chosen is None:
        others = int((~np.isin(view_N, FRONTAL)).sum())
        return every_N, {"used": used, "not_frontal": others, "images": images} if others else {}
    rows_N = every_N[np.isin(view_N, chosen)]
    if not len(rows_N):
        there = ", ".join(f"{view or 'unknown'} ({count:,})" for view, count in sorted(Counter(views).items()))
        raise InputError(
            f"cannot choose projections: no image has one of {', '.join(chosen)}; there are {there}, got "
            f"`{used}` (from `--projection`)",
            hint="--projection all",
        )
    return rows_N, {"used": used, "left_out": images - len(rows_N), "images": images}


def _renamed(table: LabelTable, choices: LabelChoices) -> LabelTable:
    """The table with findings renamed and joined; a new finding is where the first of its old ones was."""
    names = choices.renamed()
    for new, old in names.items():
        _check_renamed(new, old, table.findings)
    new_of = {name: [new for new, old in names.items() if name in old] or [name] for name in table.findings}
    findings = tuple(dict.fromkeys(new for name in table.findings for new in new_of[name]))
    if findings == table.findings:
        return table
    columns = [
        joined(table.labels_NK[:, [table.findings.index(old) for old in names.get(name, (name,))]]) for name in findings
    ]
    return replace(table, findings=findings, labels_NK=np.stack(columns, axis=1))


def _check_renamed(new: str, old: Sequence[str], findings: Sequence[str]) -> None:
    shown = f"`{on_one_line(new)}={on_one_line('|'.join(old))}` (from `--rename`)"
    missing = [name for name in old if name not in findings]
    if missing:
        raise InputError(
            f"cannot rename: there is no finding `{on_one_line(missing[0])}`, got {shown}",
            hint=_suggested(missing[0], findings),
        )
    if new in findings:
        raise InputError(
            f"cannot rename: there already is a finding `{on_one_line(new)}`, got {shown}",
            hint="choose a new name",
        )


def _suggested(name: str, findings: Sequence[str]) -> str:
    near = similar(name, findings)
    if near:
        return f"similar are {', '.join(map(on_one_line, near))}"
    return f"findings of the data set are {', '.join(map(on_one_line, findings))}"


def _renaming(name: str, findings: Sequence[str]) -> str:
    """How to get a finding of this name, where the data set has it under another one."""
    other = [each for each in findings if same_finding(name, each)]
    if len(other) == 1:
        return (
            f'the data set calls it {on_one_line(other[0])}; --rename "{on_one_line(f"{name}={other[0]}")}" renames it'
        )
    return _suggested(name, findings)


def _chosen(table: LabelTable, choices: LabelChoices) -> LabelTable:
    names = choices.chosen_findings()
    if names is None:
        return table
    missing = [name for name in names if name not in table.findings]
    if missing:
        what = [f"`{name}`: {_renaming(name, table.findings)}" for name in missing]
        raise InputError(
            f"cannot choose findings: {len(missing)} of {len(names)} not in the data set, got `{choices.findings}` "
            f"(from `--findings`){listing(what)}",
            hint=f"findings of the data set are {', '.join(map(on_one_line, table.findings))}",
        )
    return table.with_findings(names)


def _check_findings(choices: LabelChoices, findings: Sequence[str]) -> None:
    """Refuse a policy of a finding that is not there."""
    for name in choices.uncertain_policies():
        if name is not None and name not in findings:
            raise InputError(
                f"cannot use uncertain labels: there is no finding `{on_one_line(name)}` (from `--uncertain`)",
                hint=_suggested(name, findings),
            )


_Decide = Mapping[str | None, tuple[float, str]]
"""Value and origin by finding; those of all others under None."""


def _uncertain(choices: LabelChoices, of_run: LabelChoices, defaults: LayoutDefaults) -> _Decide:
    decide: dict[str | None, tuple[float, str]] = {None: _default(defaults.uncertain, defaults)}
    for chosen, origin in ((of_run, _OF_RUN), (choices, "--uncertain")):
        policies = chosen.uncertain_policies()
        if None in policies:  # a policy of all findings replaces earlier ones of single findings
            decide = {}
        decide |= {name: (value, origin) for name, value in policies.items()}
    return decide


def _blank(choices: LabelChoices, of_run: LabelChoices, defaults: LayoutDefaults) -> _Decide:
    if choices.blank is not None:
        return {None: (POLICIES[choices.blank], "--blank")}
    if of_run.blank is not None:
        return {None: (POLICIES[of_run.blank], _OF_RUN)}
    return {None: _default(defaults.blank, defaults)}


def _default(word: str | None, defaults: LayoutDefaults) -> tuple[float, str]:
    return POLICIES[word or "ignore"], f"default of layout {defaults.layout}"


def _decided(
    labels_NK: NDArray[np.float32], which_NK: NDArray[np.bool_], findings: Sequence[str], decide: _Decide
) -> dict[str, UsedLabels]:
    """Set these labels, in place, and return what was done to findings that have some."""
    applied = {}
    for k, (name, count) in enumerate(zip(findings, which_NK.sum(axis=0).tolist(), strict=True)):
        if count:
            value, origin = decide.get(name, decide[None])
            labels_NK[which_NK[:, k], k] = value
            applied[name] = UsedLabels(images=count, used_as=policy_word(value), origin=origin)
    return applied


def _counted(which_NK: NDArray[np.bool_], findings: Sequence[str]) -> dict[str, int]:
    return {name: count for name, count in zip(findings, which_NK.sum(axis=0).tolist(), strict=True) if count}


def policy_notes(policy: LabelPolicy) -> list[str]:
    """What was done to labels, in sentences."""
    return [
        *_finding_notes(policy),
        *_value_notes("uncertain", policy.get("uncertain", {})),
        *_value_notes("blank", policy.get("blank", {})),
        *_soft_notes(policy.get("soft", {})),
        *_projection_notes(policy.get("projection", {})),
    ]


def policy_summary(policy: LabelPolicy) -> str:
    """How uncertain and blank labels are used, in a few words; empty where there are none."""
    parts = []
    for kind, used in (("uncertain", policy.get("uncertain", {})), ("blank", policy.get("blank", {}))):
        ways = dict.fromkeys(f"{labels['used_as']} ({labels['origin']})" for labels in used.values())
        parts += [f"{kind} labels: {', '.join(ways)}"] if ways else []
    return "; ".join(parts)


def _finding_notes(policy: LabelPolicy) -> Iterator[str]:
    for new, old in policy.get("renamed", {}).items():
        if len(old) == 1:
            yield f"labels of {old[0]} are called {new} (--rename)"
        else:
            yield f"labels of {new} are those of {' or '.join(old)} (--rename)"
    if policy.get("not_used"):
        yield f"findings of the data set that are not used: {', '.join(policy['not_used'])} (--findings)"


def _value_notes(kind: str, used: Mapping[str, UsedLabels]) -> Iterator[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, labels in used.items():
        groups.setdefault((labels["used_as"], labels["origin"]), []).append(f"{name} ({labels['images']:,})")
    for (used_as, origin), names in groups.items():
        yield f"{kind} labels are {_MEANING.get(used_as, f'the soft label {used_as}')} ({origin}): {', '.join(names)}"


def _soft_notes(soft: Mapping[str, int]) -> Iterator[str]:
    if soft:
        listed = ", ".join(f"{name} ({count:,})" for name, count in soft.items())
        yield f"labels between 0 and 1 are soft targets: {listed}"


_MEANING: Final = {"ones": "positive", "zeros": "negative", "ignore": "unknown, and ignored"}


def _projection_notes(projection: UsedProjections) -> Iterator[str]:
    images = projection.get("images", 0)
    if projection.get("left_out"):
        yield f"{projection['left_out']:,} of {images:,} images are left out (--projection {projection.get('used')})"
    if projection.get("not_frontal"):
        yield (
            f"{projection['not_frontal']:,} of {images:,} images are used without being known to be frontal; "
            "--projection frontal leaves them out"
        )
