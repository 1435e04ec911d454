"""The old name of `trainer.runtime.entrypoint`, for manifests that an earlier version rendered; gone with the next release."""

import sys

from trainer.runtime.entrypoint import main
from trainer.screen import screen

if __name__ == "__main__":
    screen()
    sys.exit(main(sys.argv[1:]))
