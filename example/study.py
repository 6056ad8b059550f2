"""`python -m example.study`; `leaf_audio.training.study` has the flags."""

from leaf_audio.training.study import run

if __name__ == "__main__":
    run()
