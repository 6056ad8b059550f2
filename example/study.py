"""Trains several configurations with several seeds, and compares them.

python -m example.study --gin_config=example/configs/study_frontends.gin \\
    --gin_bindings="audio_folder.path = '/path/to/recordings'"

The same command continues a study that was interrupted. Bindings of `Study`
configure the study. All other bindings are passed on to its runs.
"""

from leaf_audio.app.study import run

if __name__ == "__main__":
    run()
