"""The command that prepares the data of a run, without training."""

import sys

from leaf_audio.app import main


def run() -> None:
    """Runs the command, with the flags of the command line."""
    sys.argv.insert(1, "--mode=prepare")
    main.run()


if __name__ == "__main__":
    run()
