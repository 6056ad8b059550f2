"""`python -m example.plot`; `leaf_audio.app.plot` has the flags."""

from leaf_audio.app.plot import draw, run

__all__ = ["draw"]

if __name__ == "__main__":
    run()
