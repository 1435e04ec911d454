"""The old name of `trainer.runtime.entrypoint`, for manifests that an earlier version rendered; gone with the next release."""

import sys

from trainer.runtime.entrypoint import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
