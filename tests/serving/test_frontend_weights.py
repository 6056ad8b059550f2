"""Weights of 8 bits are those of the classifier alone."""

import dataclasses
import functools
import warnings

import keras
import numpy as np
import pytest
from exporting import needs_tensorflow

import leaf_audio
from leaf_audio import frontend, models
from leaf_audio.serving.export import export

MAKERS = {
    "mel": frontend.MelFilterbanks,
    "leaf": frontend.Leaf,
    "many filters": functools.partial(frontend.Leaf, n_filters=80),
    "time domain": frontend.TimeDomainFilterbanks,
}


@needs_tensorflow
@pytest.mark.parametrize(
    "name, keep_plan",
    [
        ("mel", False),
        ("leaf", True),
        *(
            pytest.param(name, keep_plan, marks=pytest.mark.slow)
            for name, keep_plan in (
                ("many filters", True),
                ("time domain", False),
            )
        ),
    ],
)
def test_no_weight_of_a_frontend_is_stored_with_8_bits(
    tmp_path, name, keep_plan
):
    import tensorflow as tf

    model = models.AudioClassifier(
        num_outputs=12,
        frontend=MAKERS[name](),
        encoder=models.ResNet([16, 32]),
    )
    model.build((None, 16000))
    box = leaf_audio.load("speech_commands")
    classifier = dataclasses.replace(box, model=model)
    path = tmp_path / "x.tflite"
    export(classifier, path, "litert", quantize="int8", keep_plan=keep_plan)
    with warnings.catch_warnings():
        # TensorFlow's copy of the runtime is deprecated.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
    names = [
        tensor["name"]
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8
    ]
    assert names
    assert not [one for one in names if model.frontend.name in one]


@needs_tensorflow
def test_a_model_with_a_loop_gets_weights_of_8_bits(tmp_path):
    encoder = keras.Sequential(
        [keras.layers.Reshape((-1, 40)), keras.layers.GRU(16)]
    )
    model = models.AudioClassifier(
        num_outputs=12, frontend=frontend.MelFilterbanks(), encoder=encoder
    )
    model.build((None, 16000))
    box = leaf_audio.load("speech_commands")
    classifier = dataclasses.replace(box, model=model)
    path = tmp_path / "x.tflite"
    export(classifier, path, "litert", quantize="int8")
    assert path.stat().st_size > 0
