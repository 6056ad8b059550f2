"""Trains or evaluates an audio classifier.

python -m example.main --gin_config=example/configs/quickstart.gin
python -m example.main --mode=eval --workdir=runs/quickstart
"""

from leaf_audio.app.main import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
