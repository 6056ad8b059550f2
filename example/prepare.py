"""Prepares the data of a run, without training.

python -m example.prepare --gin_config=example/configs/quickstart.gin
"""

from leaf_audio.app.prepare import run

__all__ = ["run"]

if __name__ == "__main__":
    run()
