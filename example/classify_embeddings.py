"""Makes a classifier from a few labelled recordings, by embeddings.

python -m example.classify_embeddings --model=speech_commands \
    --recordings=birds --output=birds.keras unlabelled
"""

from leaf_audio.app.classify_embeddings import run

__all__ = ["run"]

if __name__ == "__main__":
    run()
