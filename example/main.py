"""`python -m example.main`; `leaf_audio.app.main` has the flags."""

from leaf_audio.app.main import run

if __name__ == "__main__":
    run()
