"""Prints the most likely labels of recordings, by the model of a run.

python -m example.predict --workdir=runs/leaf one.wav another.mp3 folder
"""

from leaf_audio.app.predict import predict, run

__all__ = ["predict"]

if __name__ == "__main__":
    run()
