"""The weights of another model, from which a run begins."""

from __future__ import annotations

import os

import keras

from leaf_audio.common.included import included, located
from leaf_audio.common.serialization import load_model
from leaf_audio.models import AudioClassifier
from leaf_audio.models.contrastive import Contrastive
from leaf_audio.models.student import kept_part
from leaf_audio.training import finite
from leaf_audio.training.workdir import Workdir


def take_from(init_from: str | os.PathLike, model: keras.Model) -> None:
    """Gives a model the frontend and the encoder of another one.

    The dense layer of a classifier and the projection of a model of pairs keep
    their values.

    Args:
        init_from: The folder of a run, of which the kept model is read, a
            `.keras` file, or the name of a model that comes with the package.
        model: The model, built.

    Raises:
        ValueError: If there is no such model, or its parts are of another
            kind, size or sample rate.
    """
    path = located(init_from)
    if path.is_dir():
        source = Workdir(path).load_best()
    elif path.is_file():
        source = load_model(path)
    else:
        raise ValueError(
            "`init_from` must be the folder of a run, a .keras file, or one of "
            f"{', '.join(included())}. Received: init_from={str(path)!r}, "
            "which does not exist."
        )
    given, own = _classifier(source), _classifier(kept_part(model))
    if given is None or own is None:
        kinds = [type(one).__name__ for one in (source, model)]
        raise ValueError(
            "`init_from` must hold an AudioClassifier or a pretrained model, "
            "for a model of this kind. Received: "
            f"init_from={str(path)!r}, a {kinds[0]} for a {kinds[1]}."
        )
    rates = [getattr(one.frontend, "sample_rate", None) for one in (given, own)]
    if None not in rates and rates[0] != rates[1]:
        raise ValueError(
            "`init_from` must hold a model for the sample rate of the run, "
            f"{rates[1]} Hz. Received: init_from={str(path)!r}, for "
            f"{rates[0]} Hz."
        )
    if finite.not_finite(given.variables):
        raise ValueError(
            "`init_from` must hold a model whose weights are finite. "
            f"Received: init_from={str(path)!r}."
        )
    try:
        own.take_weights(given)
    except ValueError as error:
        raise ValueError(
            "`init_from` must hold a model with the frontend and the encoder "
            f"of the run. Received: init_from={str(path)!r}. {error}"
        ) from error


def hold(model: keras.Model, frontend: bool, encoder: bool) -> None:
    """Has parts compute as in evaluation; see `AudioClassifier.hold`.

    Args:
        model: A model as `take_from` gets it.
        frontend: Whether the frontend does so.
        encoder: Whether the encoder does so.
    """
    classifier = _classifier(kept_part(model))
    if classifier is not None:
        classifier.hold(frontend=frontend, encoder=encoder)


def _classifier(model: keras.Model) -> AudioClassifier | None:
    if isinstance(model, Contrastive):
        return model.classifier
    return model if isinstance(model, AudioClassifier) else None
