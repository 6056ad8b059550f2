"""`python -m leaf_audio` is the command `leaf-audio`."""

from leaf_audio.app.cli import run

if __name__ == "__main__":
    run()
