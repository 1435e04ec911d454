"""`python tests/e2e`: run the tests that need a cluster, and those that failed a second time. Further words are pytest's options."""

import sys
from pathlib import Path

from retries import run

sys.exit(run(["-m", "cluster", *sys.argv[1:]], [str(Path(__file__).parent)]))
