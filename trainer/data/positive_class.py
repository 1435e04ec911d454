"""The positive class of a data set with one class per image: the class whose sensitivity and specificity are reported.

Unless `--positive-class` names it, the names of the classes decide: a class that looks healthy, such as `NORMAL`, is not it.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Final

from trainer.errors import InputError, listing, on_one_line

_NEGATIONS: Final = frozenset(
    {
        *("no", "non", "not", "nor", "none", "without", "absent", "absence", "lack"),
        *("un", "ab"),  # of un-healthy and AbNormal
        *("sin", "sans", "pas", "aucun", "aucune", "nao", "sem", "nessun", "nessuna", "senza"),
        *("kein", "keine", "ohne", "nicht", "nein", "geen", "niet", "zonder", "не", "нет", "без"),
    }
)

_HEALTHY: Final = frozenset(
    {
        *("norm", "nrm", "nml", "health", "uninfected", "noninfected", "undiseased", "safe", "sani", "sane"),
        *("nl", "wnl", "nad", "neg", "control", "controls", "ctrl", "ctl", "clear", "clean", "intact"),
        *("physiologic", "physiological", "unremarkable", "asymptomatic", "sain", "saine", "sano", "sana"),
        *("controle", "controles", "kontrolle", "kontroll", "frisk", "terve", "sehat", "binh"),
    }
)
_HEALTHY_STEMS: Final = (
    *("normal", "healthy", "negati", "volunteer", "gesund", "unauffallig", "saludabl", "saudav", "gezond", "zdrav"),
    *("zdrow", "egeszseg", "saglikl", "норм", "здоров", "φυσιολογικ", "正常", "健康", "阴性", "陰性", "정상"),
    *("طبيعي", "سليم"),
)
_HEALTHY_ENDINGS: Final = ("negative", "free", "frei")
"""Of longer words, as in `tbnegative` and `diseasefree`."""

_ALONE: Final = frozenset({"well", "ok", "okay", "good", "none", "nothing", "nil", "false", "zero", "n", "ob", "obb"})
"""Healthy only as the whole name, the last three of `n`/`p` and of German `o.B.` and `o.b.B.`."""

_SICK_STEMS: Final = ("abnormal", "anormal", "unhealthy")
_FINDING_STEMS: Final = (
    *(*_SICK_STEMS, "finding", "disease", "lesion", "patholog", "anomal", "symptom", "illness", "sick"),
    *("befund", "krank", "hallazgo", "enfermedad", "achado", "doenca", "maladie", "malattia", "ziekte", "异常", "異常"),
)
"""Words for any disease; their negation, as in `No Finding`, is as good as `normal`."""

_FILLERS: Final = frozenset(
    {"acute", "active", "significant", "evidence", "evident", "obvious", "visible", "of", "for", "any", "the"}
)
"""Words between a negation and what it negates."""

_REST: Final = frozenset(
    {
        *("other", "others", "rest", "background", "benign", "unaffected"),
        *("autre", "autres", "andere", "otro", "otros", "outro", "outros"),
    }
)
"""The rest, which is the negative class of a single finding."""

_JOINED: Final = ("non", "not", "no", "un", "无", "無", "非", "不", "未")
"""Negations that are one word with what they negate, as in `noncovid`."""

_ZERO: Final = re.compile(r"(?:^|[^\d.,])0+(?:[.,]0+)?$", re.ASCII)
"""A name such as `0`, `class_0` or `0.0`."""

_HEALTHY_LEVEL, _NEGATED_LEVEL = 2, 1
"""`normal` or `no finding` above `non-covid`, `other` or `0`, which may also be diseases."""


def default_positive_class(classes: Sequence[str]) -> str:
    """The class that looks least healthy by its name; the last by name of several."""
    words_of = {name: _words(name) for name in classes}
    levels = {
        name: _level(name, words, {word for other in classes if other != name for word in words_of[other]})
        for name, words in words_of.items()
    }
    return max(name for name in classes if levels[name] == min(levels.values()))


def earlier_positive_class(classes: Sequence[str]) -> str:
    """The positive class of runs and models that record none: they took the last by name."""
    return max(classes)


def check_positive_class(name: str, classes: Sequence[str]) -> None:
    """Raises: InputError unless the name is one of exactly two classes."""
    if len(classes) != 2:
        raise InputError(
            f"cannot use `{on_one_line(name)}` as the positive class: it can be chosen of two classes, and there are "
            f"{len(classes)} (from `--positive-class`){listing(classes)}",
            hint="remove --positive-class: the recall of every class is reported",
        )
    if name not in classes:
        raise InputError(
            f"cannot use `{on_one_line(name)}` as the positive class: there is no such class (from `--positive-class`)",
            hint=f"the classes are {' and '.join(f'`{on_one_line(each)}`' for each in classes)}",
        )


def _words(name: str) -> list[str]:
    """Words of the name without case, accents and digits; a capital after a small letter starts a word."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if unicodedata.category(char) != "Mn")
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", plain))
    return re.findall(r"[^\W\d_]+", parted.casefold())


def _level(name: str, words: Sequence[str], others: Collection[str]) -> int:
    """How healthy a class looks by its name; `others` are the words of the other classes."""
    if "".join(words) in _ALONE:
        return _HEALTHY_LEVEL
    level, negated = 0, False
    for word in words:
        if word in _NEGATIONS:
            negated = True
            continue
        found = _level_of_word(word, others, negated=negated)
        if found is None:
            return min(level, _NEGATED_LEVEL)
        level = max(level, found)
        negated = negated and word in _FILLERS
    ends_negated = negated or (len(words) > 1 and words[-1] == "free")
    return max(level, _NEGATED_LEVEL if ends_negated or _ZERO.search(name.strip()) else 0)


def _level_of_word(word: str, others: Collection[str], *, negated: bool) -> int | None:
    """How healthy this word makes a class look; None for a word that excludes it, such as `abnormal`."""
    if word.startswith(_FINDING_STEMS):
        return _HEALTHY_LEVEL if negated else None if word.startswith(_SICK_STEMS) else 0
    if _is_healthy(word):
        return None if negated else _HEALTHY_LEVEL
    if negated:
        return 0 if word in _FILLERS else _NEGATED_LEVEL
    if word in _REST:
        return _NEGATED_LEVEL
    for negation in _JOINED:
        rest = word.removeprefix(negation)
        if rest != word and (rest.startswith(_FINDING_STEMS) or rest in others or _is_healthy(rest)):
            return _level_of_word(rest, others, negated=True)
    return 0


def _is_healthy(word: str) -> bool:
    if word in _HEALTHY or word.startswith(_HEALTHY_STEMS):
        return True
    return any(word.endswith(ending) and word != ending for ending in _HEALTHY_ENDINGS)
