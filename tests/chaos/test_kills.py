"""Ten of the moments that `make chaos` draws: what is killed, and when, is fixed."""

import folder_trials as trial
import pytest
from moments import Moment, Stage, drawn
from trials import site

pytestmark = pytest.mark.e2e

FIXED = [
    Moment("rank-in-pack", "pack", [Stage("rank", "decoding.decode:before", rank=0)]),
    Moment(
        "all-in-spool",
        "state",
        [Stage("server", "put state:before", nth=2, away_s=None), Stage("all", "files.write_flushed:after", nth=2)],
    ),
    Moment("torchrun-at-manifest", "manifest", [Stage("torchrun", "put manifest:middle", nth=3)]),
    Moment("all-in-last-prune", "prune", [Stage("nothing", "committed 21"), Stage("all", "delete manifest:after")]),
    Moment("folder-removed", "folder", [Stage("removed", "loop.train_step:before", nth=9)]),
    Moment("second-writer", "folder", [Stage("second", "files.write_flushed:before", nth=6)]),
    Moment("disk-full", "disk", [Stage("full", "loop.take_checkpoint:before", nth=3, told_by=0)]),
    Moment("killed-in-directory", "disk", [Stage("killed", "files.write_flushed:after", nth=9)]),
    Moment("damaged-pack", "step", [Stage("pack", "loop.train_step:after", nth=9)]),
    Moment("term-at-the-end", "end", [Stage("term", "tempfile.TemporaryDirectory.cleanup:before")]),
]
"""Most of them have found something once: docs/benchmarks.md."""


@pytest.fixture(scope="module")
def there():
    """A server, and the unbroken run."""
    with site() as made:
        yield made


@pytest.mark.parametrize("moment", FIXED, ids=[moment.name for moment in FIXED])
def test_run_with_a_kill_ends_with_the_results_of_an_unbroken_one(there, moment):
    """Nothing that a preemption, a lost node or a bucket does may cost more than the time to train again."""
    outcome = trial.outcome(there, moment)
    assert outcome.met
    said = (there.folder / moment.name / "output.log").read_text()
    assert outcome.losses == [], said
    assert ("is damaged: shard-00000.bin has changed; building it again" in said) == (moment.name == "damaged-pack")


def test_same_seed_and_number_draw_the_same_moment():
    """A loss that was seen once must be met again."""
    assert [drawn(7, number) for number in range(100)] == [drawn(7, number) for number in range(100)]
    assert len({str(drawn(7, number)) for number in range(50)}) == 50
