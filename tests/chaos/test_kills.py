"""Five of the moments that `make chaos` draws: what is killed, and when, is fixed."""

import pytest
from moments import Moment, Stage, drawn
from trials import Trial, site

pytestmark = pytest.mark.e2e

FIXED = [
    Moment("rank-at-step", "step", [Stage("rank", "train.train_step:after", nth=9, told_by=0, rank=1)]),
    Moment("all-at-state", "state", [Stage("all", "put state:middle", nth=2)]),
    Moment("term-at-snapshot", "snapshot", [Stage("term", "train.keep:after", nth=5, told_by=1)]),
    Moment("server-at-manifest", "manifest", [Stage("server", "put manifest:middle", nth=3, away_s=1.0)]),
    Moment("torchrun-at-prune", "prune", [Stage("torchrun", "delete manifest:after")]),
]


@pytest.fixture(scope="module")
def there():
    """A server, and the unbroken run."""
    with site() as made:
        yield made


@pytest.mark.parametrize("moment", FIXED, ids=[moment.name for moment in FIXED])
def test_run_in_which_something_is_killed_ends_as_an_unbroken_one(there, moment):
    """Nothing that a preemption, a lost node or a bucket does may cost more than the time to train again."""
    outcome = Trial(there, moment).outcome()
    assert outcome.met
    assert outcome.losses == [], (there.folder / moment.name / "output.log").read_text()


def test_same_seed_and_number_are_the_same_moment():
    """A loss that was seen once must be met again."""
    assert [drawn(7, number) for number in range(100)] == [drawn(7, number) for number in range(100)]
    assert len({str(drawn(7, number)) for number in range(50)}) == 50
