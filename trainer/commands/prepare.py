"""`trainer prepare`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from trainer.data.preparing.prepare import prepare as prepare_data_set
from trainer.prepare_config import PrepareConfig
from trainer.runtime.console import Reporter
from trainer.runtime.preemption import ending_at_sigterm


def prepare(config: Annotated[PrepareConfig, Parameter(name="*")]) -> None:
    """Decode a data set once, from archives or image files, to records that `train` reads without decoding."""
    with ending_at_sigterm():
        made = prepare_data_set(config, Reporter(None))
    share = (
        "" if made.index_sha256 is not None else f" (share {config.parts}; the index is written after the last share)"
    )
    sys.stdout.write(f"{config.out}: {made.images:,} images{share}\n")
    if made.index_sha256 is not None:
        sys.stdout.write(f"sha256 of its index: {made.index_sha256}\n")
