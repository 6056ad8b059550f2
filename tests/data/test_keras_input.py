"""Keras takes the batches; programs end, whatever happens in a pipeline."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from test_batches import crop, make

from leaf_audio import data

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf.distribute is TensorFlow's",
)


@pytest.fixture(scope="module")
def audio_data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data"))


class Losses(keras.callbacks.Callback):
    """Keeps the loss of each batch of `fit`."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


@pytest.mark.parametrize("first_step", [0, 5])
def test_fit_gets_the_batches_in_order(audio_data, first_step):
    batches = data.prepare(audio_data, [crop], 4)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
    # Without learning, the loss of each batch is that of the batch alone.
    model.compile(keras.optimizers.SGD(0.0), "mse")
    seen = Losses()
    model.fit(
        batches.train(first_step),
        steps_per_epoch=3,
        epochs=2,
        callbacks=[seen],
        shuffle=False,
        verbose=0,
    )
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in model.weights)
    for loss, (audio, label) in zip(
        seen.losses, batches.train(first_step), strict=False
    ):
        outputs = (audio @ kernel + bias)[:, 0]
        assert loss == pytest.approx(np.mean((outputs - label) ** 2), rel=1e-4)
    assert len(seen.losses) == 6


# Two logical CPUs stand for two GPUs. The program ends while batches are being
# made ahead. It prints the losses of one device and of two.
MIRRORED = """
import sys
import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
sys.path.insert(0, "tests/data")
from test_batches import crop, make
from test_keras_input import Losses
from leaf_audio import data

batches = data.prepare(make(sys.argv[1]), [crop, data.white_noise], 4)
one = tf.distribute.OneDeviceStrategy("CPU:0")
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for strategy in (one, two):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e-4), "mse")
        seen = Losses()
        model.fit(
            batches.train(),
            steps_per_epoch=5,
            epochs=2,
            callbacks=[seen],
            shuffle=False,
            verbose=0,
        )
        print(*seen.losses)
"""


def run(program, *arguments):
    """Runs a program that must end by itself."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@needs_tensorflow
@pytest.mark.slow
def test_two_mirrored_devices_get_the_batches_of_one(tmp_path):
    process = run(MIRRORED, tmp_path)
    assert process.returncode == 0, process.stderr
    one, two = np.array(
        [line.split() for line in process.stdout.splitlines()], float
    )
    assert len(one) == 10
    np.testing.assert_allclose(one, two, rtol=1e-5)


# Ends while batches are being made ahead.
READS_AHEAD = """
import sys
sys.path.insert(0, "tests/data")
from test_batches import crop, make
from leaf_audio import data

def slow(samples, rng):
    if rng is not None and rng.random() < {share}:
        raise ArithmeticError("a fault of one clip")
    return samples

batches = data.prepare(make(sys.argv[1]), [crop, slow], 4)
iterator = iter(batches.train())
for _ in range({steps}):
    next(iterator)
{end}
"""


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "share, steps, end, code, message",
    [
        (0, 3, "sys.exit(3)", 3, ""),
        (0.1, 500, "", 1, "ArithmeticError: a fault of one clip"),
    ],
)
@pytest.mark.slow
def test_a_program_ends_though_batches_are_made_ahead(
    tmp_path, share, steps, end, code, message
):
    program = READS_AHEAD.format(share=share, steps=steps, end=end)
    process = run(program, tmp_path)
    assert process.returncode == code, process.stderr
    assert message in process.stderr


@pytest.mark.any_backend
def test_an_exception_in_a_transform_ends_fit_with_its_message(audio_data):
    def fail_late(samples, rng):
        if rng is not None and rng.random() < 0.02:
            raise ArithmeticError("a fault of one clip")
        return samples

    batches = data.prepare(audio_data, [crop, fail_late], 4)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(Exception, match="a fault of one clip"):
        model.fit(
            batches.train(), steps_per_epoch=500, shuffle=False, verbose=0
        )
