"""`python tests/chaos`: kill something at one random moment after another, and say what was lost."""

import argparse
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what pytest does for tests/

import folder_trials as trial
from moments import Moment, drawn
from trials import Site, site


def main(argv: list[str]) -> int:
    """The number of moments at which something was lost, at most 1."""
    parser = argparse.ArgumentParser(prog="python tests/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no moment after so long")
    parser.add_argument("--moments", type=int, default=1_000_000, help="try so many at most")
    parser.add_argument("--first", type=int, default=0, help="begin with the moment of this number")
    parser.add_argument("--moment", type=int, help="try the moment of this number alone, and show what the run said")
    arguments = parser.parse_args(argv)
    numbers = range(arguments.first, arguments.first + arguments.moments)
    if arguments.moment is not None:
        numbers = range(arguments.moment, arguments.moment + 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended then
    with site() as there:
        return tried(there, arguments.seed, numbers, arguments.minutes, shows=arguments.moment is not None)


def tried(there: Site, seed: int, numbers: range, minutes: float, *, shows: bool) -> int:
    end_s = time.monotonic() + 60 * minutes
    count = restarts = lost = missed = 0
    for number in numbers:
        if time.monotonic() > end_s:
            break
        moment = drawn(seed, number)
        outcome = trial.outcome(there, moment)
        report = "LOST " + "; ".join(outcome.losses) if outcome.losses else "OK" if outcome.met else "not met"
        reporter(
            f"{number:4}  {moment}  {outcome.restarts} again  exit {outcome.codes}  {outcome.seconds:.1f} s  {report}"
        )
        if shows or outcome.losses:
            reporter(said(there, moment))
        count, restarts = count + outcome.met, restarts + outcome.restarts
        lost, missed = lost + bool(outcome.losses), missed + (not outcome.met)
    reporter(f"seed {seed}: {count} moments tried, {missed} not met, {restarts} restarts, {lost} losses")
    return min(lost, 1)


def said(there: Site, moment: Moment) -> str:
    text = (there.folder / moment.name / "output.log").read_text(errors="replace")
    return "".join(f"      | {line}\n" for line in text.splitlines())


def reporter(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


sys.exit(main(sys.argv[1:]))
