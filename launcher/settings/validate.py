"""Validate settings one by one; combinations are validated when a job is created."""

from collections.abc import Sequence
from typing import Final, get_args

from cyclopts import CycloptsError

from launcher.settings.init import EXAMPLES
from launcher.spec.accelerators import AcceleratorName
from launcher.spec.job import JobSpec
from trainer.errors import InputError

_OF_SEVERAL: Final = frozenset({"workers_per_node", "elastic", "efa"})
"""Settings whose valid values depend on the workers, which are given with each job."""


def problem_of(key: str, texts: Sequence[str]) -> str | None:
    """The reason why a setting is invalid for every job; None if it is valid for some job."""
    accelerators = get_args(AcceleratorName) if key != "accelerator" else texts
    problems = [_problem(key, texts, accelerator) for accelerator in accelerators]
    return problems[0] if all(problems) else None


def _problem(key: str, texts: Sequence[str], accelerator: str) -> str | None:
    others = {each: (value,) for each, value in (EXAMPLES | {"accelerator": accelerator}).items()}
    try:
        JobSpec.from_settings({**others, key: tuple(texts)})
    except InputError as problem:
        is_certain = key not in _OF_SEVERAL or isinstance(problem.__cause__, CycloptsError)
        return str(problem.args[0]) if is_certain else None
    return None
