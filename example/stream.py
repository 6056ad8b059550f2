"""Prints labels while audio comes in, by the model of a run.

arecord -f S16_LE -r 16000 -t raw | python -m example.stream --workdir=RUN -
"""

from leaf_audio.app.stream import run

if __name__ == "__main__":
    run()
