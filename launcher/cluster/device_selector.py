"""Selectors of DRA devices: the usual part of their CEL expressions, evaluated for one device; pure.

Understood are comparisons of the driver and of attributes with literals, `&&`, `||`, `!` and parentheses. The result of anything
else is unknown, and an expression is unknown only if that matters: `device.driver == 'a' && f(x)` is false for other drivers.
"""

import operator
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from launcher.cluster.resources import Object

MOST_GROUPS: Final = 50
"""Limit of nested parentheses: an expression with more is unknown. Source: CEL parsers stop at about as many."""

_STRING: Final = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_TOKEN: Final = re.compile(
    rf"(?P<text>{_STRING})|(?P<open>[(\[{{])|(?P<close>[)\]}}])|(?P<other>&&|\|\||[^'\"])", re.DOTALL
)
_LITERAL: Final = rf"(?P<value>{_STRING}|-?\d+|true|false)"
_OPERATOR: Final = r"(?P<operator>==|!=|<=|>=|<|>)"
_OPERAND: Final = rf"device\.(?:(?P<driver>driver)|attributes\[(?P<domain>{_STRING})\]\.(?P<name>\w+))"
_COMPARISON: Final = re.compile(rf"{_OPERAND}\s*(?:{_OPERATOR}\s*{_LITERAL})?")
_REVERSED: Final = re.compile(rf"{_LITERAL}\s*(?P<operator>==|!=)\s*{_OPERAND}")
_COMPARE: Final[dict[str, Callable[..., bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def selects(selectors: Iterable[Object], driver: str, device: Object) -> bool | None:
    """Whether a device meets all selectors of a DeviceClass; None if that is unknown."""
    return _all(evaluate((each.get("cel") or {}).get("expression") or "", driver, device) for each in selectors)


def evaluate(expression: str, driver: str, device: Object) -> bool | None:
    """Result of a CEL expression for a device of a driver; None if it is unknown."""
    if expression.count("(") > MOST_GROUPS or expression.count("!") > MOST_GROUPS:
        return None
    return _evaluate(expression.strip(), driver, device)


def _evaluate(expression: str, driver: str, device: Object) -> bool | None:
    alternatives = _split(expression, "||")
    if len(alternatives) > 1:
        results = [_evaluate(each, driver, device) for each in alternatives]
        return True if True in results else None if None in results else False
    parts = _split(expression, "&&")
    if len(parts) > 1:
        return _all(_evaluate(each, driver, device) for each in parts)
    if expression.startswith("!"):
        result = _evaluate(expression[1:].strip(), driver, device)
        return None if result is None else not result
    if expression.startswith("(") and _is_group(expression):
        return _evaluate(expression[1:-1].strip(), driver, device)
    return _compare(expression, driver, device)


def _all(results: Iterable[bool | None]) -> bool | None:
    found = list(results)
    return False if False in found else None if None in found else True


@lru_cache(maxsize=256)  # a class has one expression, a cluster many devices
def _split(expression: str, separator: str) -> tuple[str, ...]:
    """Operands of an operator outside strings and parentheses; the whole expression if it has none, or is conditional."""
    parts, depth = [""], 0
    for token in _TOKEN.finditer(expression):
        depth += bool(token["open"]) - bool(token["close"])
        if not depth and token["other"] == "?":
            return (expression,)
        if not depth and token["other"] == separator:
            parts.append("")
        else:
            parts[-1] += token[0]
    return tuple(part.strip() for part in parts)


def _is_group(expression: str) -> bool:
    """Whether the first parenthesis is closed by the last character."""
    depth = 0
    for token in _TOKEN.finditer(expression):
        depth += bool(token["open"]) - bool(token["close"])
        if not depth:
            return token.end() == len(expression)
    return False


def _compare(expression: str, driver: str, device: Object) -> bool | None:
    match = _COMPARISON.fullmatch(expression) or _REVERSED.fullmatch(expression)
    if match is None:
        return None
    value = driver if match["driver"] else _attribute(device, driver, _literal(match["domain"]), match["name"])
    wanted = _literal(match["value"]) if match["value"] else True
    if value is None or type(value) is not type(wanted):
        return False if value is None else None  # the scheduler takes no device without the attribute
    return _COMPARE[match["operator"] or "=="](value, wanted)


def _attribute(device: Object, driver: str, domain: object, name: str) -> object:
    """An attribute, None if absent; without a domain in its name it has that of its driver. A version has no comparable value."""
    attributes = device.get("attributes") or {}
    found = attributes.get(f"{domain}/{name}") or (attributes.get(name) if domain == driver else None) or {}
    return next((found[kind] for kind in ("string", "int", "bool") if kind in found), () if found else None)


def _literal(text: str) -> str | int | bool:
    if text in {"true", "false"}:
        return text == "true"
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] in "'\"" else int(text)
