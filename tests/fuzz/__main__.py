"""`python tests/fuzz`: spoil one input after another, give it to its reader, and say which reader did what it must not."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from targets import KINDS, prepare
from tries import Outcome, rounds, worker

SHOWN = 3
"""Faults of a kind whose texts are printed; the others are counted."""


def main(argv: list[str]) -> int:
    """1 when there was a fault."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="begin no try after so long")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="of this kind alone; as often as needed")
    parser.add_argument("--number", type=int, help="make the try of this number alone")
    parser.add_argument("--first", type=int, default=0, help="begin with the try of this number")
    arguments = parser.parse_args(argv)
    kinds = arguments.kind or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        prepare(corpus)
        with worker(corpus, Path(folder) / "work", arguments.seed) as making:
            if arguments.number is not None:
                outcomes = [making.attempt(kind, arguments.number) for kind in kinds]
            else:
                outcomes = []
                for outcome in rounds(making, kinds, arguments.first, arguments.seconds):
                    outcomes.append(outcome)
                    if outcome.fault and sum(bool(one.fault) for one in outcomes if one.kind == outcome.kind) <= SHOWN:
                        reporter(f"{outcome.kind} {outcome.number}: {outcome.fault}\n")
    reporter(table(outcomes, arguments.seed))
    return int(any(outcome.fault for outcome in outcomes))


def table(outcomes: list[Outcome], seed: int) -> str:
    """A row for each kind."""
    tried = Counter(outcome.kind for outcome in outcomes)
    accepted = Counter(outcome.kind for outcome in outcomes if outcome.accepted)
    faults = Counter(outcome.kind for outcome in outcomes if outcome.fault)
    lines = [f"{'seed ' + str(seed):<14}{'tries':>8}{'accepted':>10}{'refused':>9}{'faults':>8}"]
    for kind in tried:
        refused = tried[kind] - accepted[kind] - faults[kind]
        lines.append(f"{kind:<14}{tried[kind]:>8}{accepted[kind]:>10}{refused:>9}{faults[kind]:>8}")
    total = tried.total() - accepted.total() - faults.total()
    lines.append(f"{'all':<14}{tried.total():>8}{accepted.total():>10}{total:>9}{faults.total():>8}")
    return "\n".join(lines)


def reporter(text: str) -> None:
    """Print it at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
