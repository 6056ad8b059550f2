"""Registers with gin the waveform transforms of audiomentations.

A config that uses them has the line `import leaf_audio.app.augment`. It can
then refer to `@PitchShift()`, `@Compose()` and the like, as the `transform` of
a `data.Audiomentation`; docs/augmentation.md shows an example.

Importing this module needs the library: pip install 'leaf_audio[augment]'.
"""

import inspect

import gin

from leaf_audio.app.factory import Factory

try:
    import audiomentations
    from audiomentations.core.composition import BaseCompose
    from audiomentations.core.transforms_interface import BaseWaveformTransform
except ImportError as error:
    raise ImportError(
        "leaf_audio.app.augment needs audiomentations: "
        "pip install 'leaf_audio[augment]'."
    ) from error


def names() -> list[str]:
    """Returns the names of everything that is registered here."""
    return [
        name
        for name, value in inspect.getmembers(audiomentations, inspect.isclass)
        if issubclass(value, (BaseWaveformTransform, BaseCompose))
    ]


def _register() -> None:
    for name in names():
        factory = Factory(getattr(audiomentations, name))
        gin.external_configurable(factory, name, "audiomentations")


_register()
