"""Plain JSON data as YAML that every reader of YAML takes for the same; no library is loaded for it.

Texts that some reader takes for something else stand in double quotes: `no` and `1:30` in YAML 1.1, `1e3` in Go's.
"""

import math
import re
from collections.abc import Iterator
from typing import Final

_PLAIN: Final = r"(?!\.\.\.)-{0,2}[A-Za-z0-9_./~][-A-Za-z0-9_./~@=+,()]*(?:[ :][-A-Za-z0-9_./~@=+,()]+)*"
_NUMBER: Final = (
    r"[-+]?([0-9_]*\.?[0-9_]*(e[-+]?[0-9]+)?|0[xob][0-9a-f_]+|[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?|\.(inf|nan))"
)
_OTHERWISE: Final = rf"{_NUMBER}|[0-9]{{4}}-[0-9]+-[0-9]+.*|~|y|n|yes|no|on|off|true|false|null"
"""What is a number, a truth, a date or nothing to some reader, in any case of its letters."""


def as_yaml(value: object) -> str:
    """A document, keys in the order in which they stand. Raises: ValueError for a number that is not finite."""
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _entry(f"{_scalar(key)}:", each)
    elif isinstance(value, list | tuple) and value:
        for each in value:
            first, *others = _lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in others)
    else:
        yield _scalar(value)


def _entry(key: str, value: object) -> Iterator[str]:
    """A key and its value; lists stand below their key without an indent, as kubectl writes them."""
    if isinstance(value, dict | list | tuple) and value:
        yield key
        indent = "  " if isinstance(value, dict) else ""
        yield from (f"{indent}{line}" for line in _lines(value))
    else:
        yield f"{key} {_scalar(value)}"


def _scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple):
        return "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"no JSON data: {value}")
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + (".0" if e and "." not in mantissa else "") + e + exponent
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    if re.fullmatch(_OTHERWISE, text, re.IGNORECASE):
        return f'"{text}"'
    if re.fullmatch(_PLAIN, text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return {"\n": "\\n", "\t": "\\t"}.get(char) or f"\\U{ord(char):08x}"
