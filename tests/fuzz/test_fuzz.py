"""A few seconds of `make fuzz`, and that it would find what it looks for."""

import random
from collections import Counter

import mutations
import pytest
from targets import KINDS, prepare
from tries import Worker, rounds, worker

SECONDS = 5.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A run of a tiny network, its data set, and what else is spoiled."""
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    prepare(folder)
    return folder


def test_spoiled_input_is_accepted_or_refused(corpus, tmp_path):
    """No traceback, no hang, no gigabyte and no silent change, whatever is read."""
    with worker(corpus, tmp_path / "work", seed=1) as making:
        outcomes = list(rounds(making, list(KINDS), 0, SECONDS))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert {outcome.kind for outcome in outcomes} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "fault"),
    {
        "raises": "KeyError: 'no such key'",
        "advises": "words of a library",
        "hangs": "hangs: no answer",
        "grows": "MiB of memory",
        "grows_without_end": "more than 1024 MiB of memory",
        "ends": "ended the process, with 9",
        "prints": "control characters",
        "changes": "other pixels",
    }.items(),
)
def test_planted_fault_is_found(kind, fault, planted):
    """A fuzzer that finds nothing must have had something to find."""
    outcome = planted.attempt(kind, 1)
    assert fault in (outcome.fault or "")
    assert not outcome.accepted


def test_tries_go_on_after_a_fault(planted):
    """One bad input must not hide the next."""
    assert planted.attempt("ends", 1).fault
    assert planted.attempt("accepts", 2).accepted
    refused = planted.attempt("refuses", 3)
    assert (refused.fault, refused.accepted) == (None, False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A worker whose readers are at fault."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "corpus").mkdir()
    made = Worker(folder / "corpus", folder / "work", 1, kinds="planted", hang_s=2.0)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["spoiled_bytes", "spoiled_text", "spoiled_json", "spoiled_yaml"])
def test_same_dice_spoil_alike_and_most_dice_differ(name):
    """A fault that was found once must be found again, and a fuzzer that changes nothing tries nothing."""
    content = b'{"a": [1, 2, {"b": "c,d"}], "e": null}\n'
    spoil = getattr(mutations, name)
    made = [spoil(random.Random(number), content) for number in range(60)]
    assert made == [spoil(random.Random(number), content) for number in range(60)]
    assert Counter(one == content for one in made)[False] > 40
