"""A patch of the pod template, for what has no flag: read as data, merged as `kubectl patch` merges."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cyclopts import Token

from launcher.resources import Object
from trainer.errors import InputError, on_one_line

KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists whose elements are told apart by a key; others are replaced. Source: patchMergeKey in Kubernetes' core/v1 types."""

DIRECTIVE: Final = "$patch"

_EXAMPLE: Final = "{spec: {containers: [{name: pytorch, resources: {limits: {memory: 64Gi}}}]}}"


@dataclass(frozen=True)
class Overlay:
    """A patch, and the file that it came from."""

    path: str
    patch: Object


def read_overlay(type_: object, tokens: Sequence[Token]) -> Overlay:  # noqa: ARG001 - cyclopts' signature
    """The overlay in a YAML file. Raises: InputError."""
    import yaml  # noqa: PLC0415 - a fifth of the time that --help takes

    path = Path(tokens[0].value).resolve()
    try:
        patch = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else on_one_line(" ".join(str(problem).split()))
        raise InputError(f"cannot read the overlay `{path}`: {reason} (from `--overlay`)", hint=_EXAMPLE) from problem
    if not isinstance(patch, dict) or not patch or not set(patch) <= {"metadata", "spec"}:
        raise InputError(
            f"cannot use the overlay `{path}`: it must be a pod template's `metadata` and `spec` (from `--overlay`)",
            hint=_EXAMPLE,
        )
    return Overlay(str(path), patch)


def merged(base: Object, patch: Object) -> Object:
    """`base` with the patch applied; neither is changed."""
    result = deepcopy(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif isinstance(value, list) and isinstance(result.get(key), list) and key in KEYS:
            result[key] = _merged_list(result[key], value, KEYS[key])
        else:
            result[key] = deepcopy(value)
    return result


def _merged_list(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    """Elements of both; those with the same key merged, those that the patch marks `$patch: delete` left out."""
    result = {element.get(key): element for element in deepcopy(base)}
    for element in patch:
        if not isinstance(element, dict) or key not in element:
            raise InputError(
                f"cannot apply the overlay: an element of a list has no `{key}`, by which it would be found (from `--overlay`)",
                hint=_EXAMPLE,
            )
        if element.get(DIRECTIVE) == "delete":
            result.pop(element[key], None)
        else:
            result[element[key]] = merged(result.get(element[key], {}), element)
    return list(result.values())
