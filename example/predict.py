"""`python -m example.predict`; `leaf_audio.serving.predict` has the flags."""

from leaf_audio.serving.predict import run

if __name__ == "__main__":
    run()
