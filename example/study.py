"""Trains several configurations with several seeds, and compares them.

python -m example.study --gin_config=example/configs/study_frontends.gin \\
    --gin_bindings="audio_folder.path = '/path/to/recordings'"

The same command continues a study that was interrupted. Bindings of `Study`
configure the study. All other bindings are passed on to its runs.
"""

from leaf_audio.app.study import check_settings, read, run

__all__ = ["check_settings", "read"]


def __getattr__(name):
    """Finds what an earlier version of this module had."""
    # Not imported above: the command parses its flags before it imports Keras.
    from leaf_audio.training import study

    return getattr(study, name)


if __name__ == "__main__":
    run()
