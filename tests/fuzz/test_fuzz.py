"""A few seconds of `make fuzz`, and that it would find what it looks for."""

import gzip
import random
from collections import Counter

import mutations
import pytest
import targets
from targets import KINDS, Bench, prepare
from tries import Worker, rounds, worker

SECONDS = 5.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A run of a tiny network, its data set, and what else is spoiled."""
    folder = tmp_path_factory.mktemp("fuzz") / "corpus"
    prepare(folder)
    return folder


def test_mutated_input_is_accepted_or_refused_with_a_known_error(corpus, tmp_path):
    """No traceback, no hang, no gigabyte and no silent change, whatever is read."""
    with worker(corpus, tmp_path / "work", seed=1) as making:
        outcomes = list(rounds(making, list(KINDS), 0, SECONDS))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert {outcome.kind for outcome in outcomes} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_unmutated_input_is_accepted(corpus, tmp_path, monkeypatch, kind):
    """Readers that refuse everything are not tried."""
    for name in vars(targets).keys() & vars(mutations).keys():
        if name.startswith(("spoiled_", "zeroed")):
            monkeypatch.setattr(targets, name, lambda _, content, **__: content)
    monkeypatch.setattr(targets, "spoiled_gzip", lambda _, content: gzip.compress(content, mtime=0))
    for number in range(3):
        work = tmp_path / str(number)
        work.mkdir()
        dice = random.Random(number)
        monkeypatch.setattr(dice, "choice", lambda options: next(iter(options)))
        assert KINDS[kind].attempt(Bench(corpus, work), dice)


@pytest.fixture
def planted(tmp_path):
    """Starts a worker whose readers are at fault, with these limits."""
    (tmp_path / "corpus").mkdir()
    made = []

    def start(**limits):
        made.append(Worker(tmp_path / "corpus", tmp_path / "work", 1, kinds="planted", **limits))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_fuzzer_finds_planted_faults(planted):
    """A fuzzer that finds nothing must have had something to find; and one fault must not hide the next."""
    making = planted()
    found = {kind: making.attempt(kind, 1) for kind in FAULTS}
    assert {kind: outcome.fault for kind, outcome in found.items() if FAULTS[kind] not in (outcome.fault or "")} == {}
    assert not any(outcome.accepted for outcome in found.values())
    good, refused = making.attempt("accepts", 2), making.attempt("refuses", 3)
    assert (good.fault, good.accepted, refused.fault, refused.accepted) == (None, True, None, False)


FAULTS = {
    "raises": "KeyError: 'no such key'",
    "advises": "words of a library",
    "grows": "MiB of memory",
    "grows_without_end": "more than 1024 MiB of memory",
    "ends": "ended the process, with 9",
    "prints": "control characters",
    "changes": "other pixels",
}


def test_fuzzer_finds_a_reader_that_waits(planted):
    """It would take the fuzzer with it."""
    outcome = planted(hang_s=1.0).attempt("hangs", 1)
    assert (outcome.fault, outcome.accepted) == ("hangs: no answer in 1 s", False)


def test_fuzzer_finds_a_reader_that_never_ends(planted):
    """On a machine that is busy too: its own processor time counts."""
    outcome = planted(busy_s=0.5).attempt("works", 1)
    assert (outcome.fault, outcome.accepted) == ("works without an end: no answer in 0.5 s of processor time", False)


@pytest.mark.parametrize("name", ["spoiled_bytes", "spoiled_text", "spoiled_json", "spoiled_yaml"])
def test_same_seed_mutates_alike_and_most_seeds_differ(name):
    """A fault that was found once must be found again, and a fuzzer that changes nothing tries nothing."""
    content = b'{"a": [1, 2, {"b": "c,d"}], "e": null}\n'
    spoil = getattr(mutations, name)
    made = [spoil(random.Random(number), content) for number in range(60)]
    assert made == [spoil(random.Random(number), content) for number in range(60)]
    assert Counter(one == content for one in made)[False] > 40
