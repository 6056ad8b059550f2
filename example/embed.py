"""Writes the embeddings of recordings, by the model of a run.

python -m example.embed --workdir=runs/leaf --output=embeddings.npz folder
"""

from leaf_audio.app.embed import run

if __name__ == "__main__":
    run()
