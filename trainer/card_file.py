"""Fields of a model card that only the model's owner knows: read from the YAML file of `--card`, as data.

A command line carries them as one line of JSON, which is YAML too: so a file on the user's machine reaches a job without
being copied.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cyclopts import Token

from trainer import yaml_file
from trainer.errors import InputError, listing, on_one_line
from trainer.limits import parsed_yaml
from trainer.redaction import holds_secret, learn_text

FIELDS: Final[Mapping[str, str]] = {
    "owner": "Owner of the model",
    "contact": "Contact",
    "weights_licence": "Licence of the weights",
    "intended_use": "Intended use and users",
    "reference_standard": "Reference standard: how the labels were made, and by whom",
    "inclusion_criteria": "Inclusion and exclusion criteria",
    "collection_period": "Period of collection",
    "collection_place": "Place and setting of collection",
    "acquisition": "Acquisition of the images",
    "deidentification": "De-identification",
    "preparation": "Preparation of the data before this program",
    "sample_size": "Rationale of the sample size",
    "ethics_approval": "Ethics approval and consent",
    "protocol": "Protocol and registration",
    "patient_involvement": "Involvement of patients and the public",
    "data_availability": "Availability of the data",
    "code_availability": "Availability of the code",
    "funding": "Funding and the role of funders",
    "competing_interests": "Competing interests",
    "limitations": "Limitations known to the owner",
}
"""Title of each field. Source: items of CLAIM 2024 and TRIPOD+AI that no program can know (docs/evidence.md)."""

MOST_CHARS: Final = 1000
"""Length of a field; a card is one page, and a command line carries it."""

NOT_STATED: Final = "not stated"

_INLINE: Final = "{"
"""Start of fields on the command line, as opposed to the name of a file."""

_EMPTY: Final = frozenset({"", "~", "null"})

_HINT: Final = f"lines `field: text`; the fields are {', '.join(FIELDS)}"


def read_card(type_: object, tokens: Sequence[Token]) -> str:  # noqa: ARG001 - cyclopts' signature
    """The fields in the file that `--card` names, or inline, as one line of JSON. Raises: InputError."""
    text = tokens[-1].value
    if text.startswith(_INLINE):
        return as_text(parsed(text, "the card"))
    try:
        content = yaml_file.read(Path(text))
    except (OSError, ValueError) as problem:
        reason = yaml_file.why_unread(problem) if text else "no file"
        raise InputError(
            f"cannot read the card: {on_one_line(reason).lower()}, got `{on_one_line(text)}` (from `--card`)",
            hint="--card card.yaml, a file on this machine",
        ) from problem
    return as_text(parsed(content, f"the card `{on_one_line(text)}`"))


def parsed(text: str, what: str = "the card") -> dict[str, str]:
    """The stated fields, each on one line, in the order of `FIELDS`; those without text are left out.

    `what` names the text in messages. Raises: InputError with all problems, without the content of any field.
    """
    document = _loaded(text, what)
    if document is None:  # comments only
        return {}
    if not isinstance(document, dict):
        raise InputError(f"cannot use {what}: it is not a mapping of fields (from `--card`)", hint=_HINT)
    unknown = [f"`{on_one_line(str(key))}`" for key in document if key not in FIELDS]
    if unknown:
        raise InputError(
            f"cannot use {what}: unknown field{'s' * (len(unknown) > 1)} {', '.join(unknown)} (from `--card`)",
            hint=_HINT,
        )
    problems = [f"{key}: {problem}" for key, value in document.items() if (problem := _problem(value))]
    if problems:
        raise InputError(
            f"cannot use {what}: {len(problems)} of its fields cannot be used (from `--card`){listing(problems)}",
            hint=f"each field is a text of at most {MOST_CHARS:,} characters without logins, keys and tokens",
        )
    stated = {key: _on_one_line(value) for key, value in document.items() if value not in _EMPTY}
    return {key: stated[key] for key in FIELDS if key in stated}


def stated_fields(record: Mapping[str, Any] | None) -> dict[str, str]:
    """The fields in a run's record that `--card` would take; empty without any."""
    stated = (record or {}).get("card")
    if not isinstance(stated, Mapping):
        return {}
    return {key: stated[key] for key in FIELDS if stated.get(key) and _problem(stated[key]) is None}


def as_text(fields: Mapping[str, str]) -> str:
    """The fields as one line of JSON."""
    text = json.dumps(fields, ensure_ascii=False)
    return text.replace("$", "\\u0024")  # Kubernetes replaces `$(NAME)` in a container's arguments


def _loaded(text: str, what: str) -> object:
    """The document, with every value as text. Raises: InputError."""
    import yaml  # noqa: PLC0415 - most commands read no YAML

    try:
        document: object = parsed_yaml(text, yaml.BaseLoader)
        node = yaml.compose(text, yaml.BaseLoader)
    except ValueError as problem:
        raise InputError(f"cannot read {what}: {problem} (from `--card`)", hint=_HINT) from None
    except yaml.YAMLError as problem:
        learn_text(text)
        reason = yaml_file.why_invalid(problem)
        raise InputError(f"cannot read {what}: {reason} (from `--card`)", hint=_HINT) from None
    if isinstance(document, dict) and isinstance(node, yaml.MappingNode) and len(document) < len(node.value):
        names = [key.value for key, _ in node.value]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"cannot use {what}: the field `{on_one_line(twice)}` is there twice (from `--card`)", hint="remove one"
        )
    return document


def _problem(value: object) -> str | None:
    if not isinstance(value, str):
        return f"it must be a text, got a {'list' if isinstance(value, list) else 'mapping'}"
    text = _on_one_line(value)
    if len(text) > MOST_CHARS:
        return f"it has {len(text):,} characters, at most {MOST_CHARS:,} are allowed"
    if not text.isprintable():
        return "it has unprintable characters"
    return "it contains a login, a key or a token" if holds_secret(text) else None


def _on_one_line(text: str) -> str:
    """The text with each run of blanks and line breaks as one blank."""
    return " ".join(text.split())
