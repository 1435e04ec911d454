"""Evaluation of two classes as that of the positive class: the other one has the same numbers, mirrored."""

from trainer.evaluation.document import Evaluation, Group


def of_positive_class(evaluation: Evaluation) -> Evaluation:
    """The evaluation with the positive class only if it is of two classes, otherwise as it is."""
    classes = evaluation["classes"]
    if classes is None or len(evaluation["findings"]) != 2:
        return evaluation
    name = classes["positive"]
    findings = [one for one in evaluation["findings"] if one["name"] == name]
    if not findings:
        return evaluation
    shown: Evaluation = {**evaluation, "findings": findings}
    shown["mean_auroc"], shown["mean_auprc"] = findings[0]["auroc"], findings[0]["auprc"]
    shown["subgroups"] = [_group(group, name) for group in evaluation["subgroups"]]
    if evaluation["comparison"] is not None:
        rows = [row for row in evaluation["comparison"]["differences"] if row["name"] == name]
        shown["comparison"] = {**evaluation["comparison"], "differences": rows}
    return shown


def _group(group: Group, name: str) -> Group:
    shown: Group = {**group, "auroc": {key: one for key, one in group["auroc"].items() if key == name}}
    if "findings" in group:
        shown["findings"] = {key: one for key, one in group["findings"].items() if key == name}
    return shown
