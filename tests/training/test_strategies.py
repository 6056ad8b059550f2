"""Training on several devices, and clear errors where there are none."""

import json
import textwrap
import zipfile

import keras
import numpy as np
import pytest
from tones import bindings, main_flags, python, write_tones
from training_runs import rows

from leaf_audio.app import configuration, train
from leaf_audio.training import strategies

pytestmark = [pytest.mark.compiled, pytest.mark.usefixtures("fresh_gin")]

BACKEND = keras.backend.backend()
needs_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's"
)
needs_jax = pytest.mark.skipif(
    BACKEND != "jax", reason="keras.distribution needs JAX"
)

# What one device and two must agree on; nothing depends on the batch as a
# whole, as batch normalisation's statistics would.
MODEL = (
    "train.num_epochs = 2",
    "train.learning_rate = 0.01",
    "ConvBlock.normalization_layer = None",
)
TWO_TENSORFLOW_DEVICES = """
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
from leaf_audio.app import main

main.run()
"""


TWO_MIRRORED = (
    "train.strategy = 'mirrored'",
    "mirrored.devices = ['CPU:0', 'CPU:1']",
)


def run_on_two(tmp_path, strategy, program, on=(), recipe=MODEL, **environment):
    """Trains twice, on one device and on two, and returns both runs."""
    write_tones(tmp_path / "tones")

    def settings(name, *more):
        workdir = f"train.workdir = '{tmp_path / name}'"
        return bindings(tmp_path, *recipe, workdir, *more)

    configuration.parse([], settings("one"))
    train.train()
    on_two = settings("two", f"train.strategy = '{strategy}'", *on)
    python("-c", program, *main_flags(on_two), **environment)

    runs = []
    for workdir in (tmp_path / "one", tmp_path / "two"):
        results = json.loads((workdir / "results.json").read_text())
        with np.load(workdir / "state.npz") as arrays:
            state = {k: arrays[k] for k in arrays.files if k != "progress"}
        rows = (workdir / "metrics.csv").read_text().splitlines()[1:]
        losses = [float(row.split(",")[1]) for row in rows]
        runs.append((results, state, losses))
    return runs


def assert_same(one, two, atol=2e-5):
    np.testing.assert_allclose(one[2], two[2], rtol=1e-5)
    assert one[1].keys() == two[1].keys()
    for name, value in one[1].items():
        np.testing.assert_allclose(value, two[1][name], rtol=2e-3, atol=atol)
    for split, metrics in one[0]["metrics"].items():
        other = two[0]["metrics"][split]
        assert metrics["accuracy"] == other["accuracy"]
        np.testing.assert_allclose(metrics["loss"], other["loss"], rtol=1e-5)


@needs_tensorflow
@pytest.mark.slow
def test_two_mirrored_devices_train_as_one_on_the_same_batches(tmp_path):
    one, two = run_on_two(
        tmp_path, "mirrored", TWO_TENSORFLOW_DEVICES, on=TWO_MIRRORED
    )
    assert_same(one, two)


@pytest.fixture(scope="module")
def normalizing(tmp_path_factory):
    """Runs with batch normalization on two mirrored devices.

    "whole" has trained for three epochs, "resumed" for one and then two more.
    """
    folder = tmp_path_factory.mktemp("normalizing")
    write_tones(folder / "tones")
    for name, epochs in (("whole", 3), ("resumed", 1), ("resumed", 3)):
        settings = bindings(
            folder,
            *TWO_MIRRORED,
            # By a name, the config of the layer would not be saved.
            "ConvBlock.normalization_layer = @BatchNormalization()",
            f"train.num_epochs = {epochs}",
            "train.learning_rate = 0.01",
            "train.keep = 'last'",
            f"train.workdir = '{folder / name}'",
        )
        python("-c", TWO_TENSORFLOW_DEVICES, *main_flags(settings))
    return folder


@needs_tensorflow
@pytest.mark.slow
def test_what_mirrored_devices_score_is_the_model_that_is_saved(normalizing):
    scored = rows(normalizing / "whole")[-1]
    results = json.loads((normalizing / "whole/results.json").read_text())
    saved = results["metrics"]["validation"]
    np.testing.assert_allclose(
        float(scored["val_loss"]), saved["loss"], rtol=1e-5
    )
    assert float(scored["val_accuracy"]) == saved["accuracy"]


@needs_tensorflow
@pytest.mark.slow
def test_a_resumed_run_on_mirrored_devices_equals_a_whole_one(normalizing):
    whole, resumed = (rows(normalizing / name) for name in ("whole", "resumed"))
    assert len(whole) == 3
    for one, other in zip(whole, resumed, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(
                float(value), float(other[name]), rtol=1e-5, err_msg=name
            )


@needs_tensorflow
@pytest.mark.slow
def test_a_model_of_mirrored_devices_is_saved_for_any_backend(normalizing):
    with zipfile.ZipFile(normalizing / "whole" / "best.keras") as archive:
        config = archive.read("config.json").decode()
    # Keras loads no other on JAX and PyTorch.
    assert '"synchronized": false' in config
    assert '"synchronized": true' not in config


@needs_jax
def test_two_jax_devices_train_as_one_on_the_same_batches(tmp_path):
    one, two = run_on_two(
        tmp_path,
        "data_parallel",
        "from leaf_audio.app import main; main.run()",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert_same(one, two)


COLA = (*MODEL, "train.pretraining = @COLA", "COLA.units = 8")
SIMCLR = (
    *(*MODEL, "train.pretraining = @SimCLR", "SimCLR.units = 8"),
    # With one that is not 0, all views would have the same direction.
    "SimCLR.hidden_units = 32",
)
by_method = pytest.mark.parametrize(
    "recipe", [COLA, SIMCLR], ids=["COLA", "SimCLR"]
)


@needs_tensorflow
@pytest.mark.slow
@by_method
def test_mirrored_pretraining_compares_the_clips_of_all_devices(
    recipe, tmp_path
):
    one, two = run_on_two(
        tmp_path,
        "mirrored",
        TWO_TENSORFLOW_DEVICES,
        on=["mirrored.devices = ['CPU:0', 'CPU:1']"],
        recipe=recipe,
    )
    assert_same(one, two)
    # Each epoch is also validated as on one device.
    for found, other in zip(
        rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True
    ):
        for name in ("accuracy", "val_loss", "val_accuracy"):
            np.testing.assert_allclose(
                float(found[name]), float(other[name]), rtol=1e-4
            )


ONE_STEP_ON_COPIES = """
import sys

import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
import keras
import numpy as np

from leaf_audio import models
from leaf_audio.training import batch_statistics, contrast, replicas

pairs = np.random.default_rng(0).normal(size=(4, 2, 12, 8)).astype("float32")
# The first and the last are one recording, on different devices.
numbers = np.array([7, 1, 3, 7])
pairs[3, 0] = pairs[0, 1]


def trained(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = models.SimCLR(
            models.AudioClassifier(1, encoder=models.ConvNet([8])),
            units=5,
            hidden_units=32,
        )
        model.whole_batch = replicas.whole_batch
        model(pairs)
        batch_statistics.synchronize(model)
        model.compile(
            keras.optimizers.SGD(0.1),
            contrast.PartnerCrossentropy(),
            metrics=[contrast.partner_accuracy],
        )
        history = model.fit(
            pairs, numbers, batch_size=4, epochs=3, shuffle=False, verbose=0
        ).history
        return history, model.predict(pairs, verbose=0), model.get_weights()


alone = trained(tf.distribute.get_strategy())
together = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
for one, other in zip(tf.nest.flatten(alone), tf.nest.flatten(together)):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert np.isfinite(one).all()
assert alone[0]["loss"][0] != alone[0]["loss"][-1]
print("the same")
"""


@needs_tensorflow
@pytest.mark.slow
def test_a_copy_on_another_device_is_no_candidate():
    process = python("-c", ONE_STEP_ON_COPIES)
    assert process.stdout.split() == ["the", "same"]


@needs_jax
@by_method
def test_pretraining_on_two_jax_devices_is_that_on_one(recipe, tmp_path):
    one, two = run_on_two(
        tmp_path,
        "data_parallel",
        "from leaf_audio.app import main; main.run()",
        recipe=recipe,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    # Similarities are divided by a small temperature, and differences by
    # rounding with them: in an average of gradients up to 6e-5.
    assert_same(one, two, atol=2e-4)


@needs_jax
def test_a_batch_must_divide_among_the_devices(tmp_path):
    write_tones(tmp_path / "tones")
    flags = main_flags(
        bindings(
            tmp_path,
            "train.batch_size = 3",
            "train.strategy = 'data_parallel'",
            f"train.workdir = '{tmp_path / 'run'}'",
        )
    )
    process = python(
        "-m",
        "example.main",
        *flags,
        check=False,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert process.returncode == 1
    assert "`batch_size` must be a multiple" in process.stderr


def test_the_default_strategy_leaves_everything_as_it_is():
    strategy = strategies.create("default")
    assert strategy.num_devices == 1
    with strategy.scope():
        assert keras.distribution.distribution() is None


def test_an_unknown_strategy_is_refused_by_name():
    with pytest.raises(ValueError, match="`strategy` must be one of .*'tpu'"):
        strategies.create("tqu")


@pytest.mark.parametrize(
    "name, backend",
    [
        ("mirrored", "tensorflow"),
        ("multi_worker_mirrored", "tensorflow"),
        ("tpu", "tensorflow"),
        ("data_parallel", "jax"),
    ],
)
def test_a_strategy_of_another_backend_is_refused(name, backend):
    if BACKEND == backend:
        pytest.skip(f"{name} is a strategy of this backend")
    with pytest.raises(ValueError, match=f"needs KERAS_BACKEND={backend}"):
        strategies.create(name)


@needs_tensorflow
def test_a_tpu_needs_an_address():
    with pytest.raises(ValueError, match="`tpu` must be the address of a TPU"):
        strategies.tpu()


@needs_tensorflow
@pytest.mark.parametrize("address", ["grpc://127.0.0.1:9", "local"])
@pytest.mark.slow
def test_a_tpu_that_is_not_there_is_a_clear_error(tmp_path, address):
    write_tones(tmp_path / "tones")
    process = python(
        "-m",
        "example.main",
        f"--tpu={address}",
        f"--workdir={tmp_path / 'run'}",
        *main_flags(bindings(tmp_path)),
        check=False,
    )
    assert process.returncode == 1
    assert (
        f"can be reached, its name, or 'local'. Received: tpu={address!r}"
        in (process.stderr)
    )
    assert "Traceback" not in process.stderr


@needs_tensorflow
@pytest.mark.parametrize(
    "devices", [["GPU:7"], ["U:0"], ["0"], ["CPU:0", "/device:CPU:0"]]
)
def test_devices_that_are_not_there_or_the_same_are_named(devices):
    with pytest.raises(ValueError, match="`devices` must be different ones"):
        strategies.mirrored(devices=devices)


@pytest.mark.parametrize("devices", [[""], ["cpu:0", "cpu:0"], [], "cpu:0"])
@pytest.mark.parametrize("name", ["mirrored", "data_parallel"])
def test_devices_have_different_names(name, devices):
    with pytest.raises(ValueError, match="`devices` must be a list of diff"):
        getattr(strategies, name)(devices)


@needs_tensorflow
@pytest.mark.slow
def test_a_tpu_strategy_is_built_from_the_flags():
    """Stands in for TensorFlow's TPU parts, since no TPU can be had."""
    program = """
    from unittest import mock
    import tensorflow as tf
    from leaf_audio.app import configuration, train

    resolver = mock.Mock(**{"master.return_value": ""})
    with (
        mock.patch.object(
            tf.distribute.cluster_resolver, "TPUClusterResolver",
            return_value=resolver,
        ) as make,
        mock.patch.object(tf.config, "experimental_connect_to_cluster") as join,
        mock.patch.object(tf.tpu.experimental, "initialize_tpu_system") as init,
        mock.patch.object(tf.distribute, "TPUStrategy") as strategy,
    ):
        strategy.return_value.num_replicas_in_sync = 8
        configuration.parse([], ["tpu.address = 'my-tpu'"])
        made = train.make_strategy("tpu")
    make.assert_called_once_with("my-tpu")
    for step in (join, init, strategy):
        step.assert_called_once_with(resolver)
    print(made.num_devices)
    """
    process = python("-c", textwrap.dedent(program))
    assert process.stdout.split() == ["8"]
