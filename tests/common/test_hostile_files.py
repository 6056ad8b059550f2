"""A saved model that was made up to run code does not run it.

The config inside a `.keras` file is edited, as an attacker would. Each file
must be refused with a message that says why, wherever a model is loaded.
"""

import base64
import functools
import json
import marshal
import pathlib
import zipfile

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.saving.serialization_lib import SafeModeScope

from leaf_audio import frontend, initializers, models, serving, training
from leaf_audio.common import serialization
from leaf_audio.initializers import from_trained

pytestmark = pytest.mark.any_backend

# What a hostile file would write if its code ran.
MARK = "it_ran"


def partial(function, *args, **keywords):
    """The form in which a partial is saved."""
    return {
        "class_name": "functools.partial",
        "config": {
            "function": function,
            "args": list(args),
            "keywords": keywords,
        },
    }


def function(name, module, registered_name=None):
    """The form in which Keras saves a function, and finds a class too."""
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": registered_name or name,
    }


def layer(name, config, module="keras.layers", registered_name=None):
    """The form in which Keras saves a layer."""
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": registered_name,
    }


def python_code(mark):
    code = compile(f"open({mark!r}, 'w').close()", "code", "exec")
    text = base64.encodebytes(marshal.dumps(code)).decode("ascii")
    return {"code": text, "defaults": None, "closure": None}


TFSM = function("TFSMLayer", "keras.layers")
LOG = serialization.serialize(frontend.log_compression)


def hostile_values(folder):
    """Values of an argument, by a name, and what the message must say."""
    mark = str(folder / MARK)
    saved = str(folder / "saved_model")
    code = {"class_name": "__lambda__", "config": python_code(mark)}
    run_python = layer("Lambda", {"name": "f", "function": code})
    return {
        "partial of TFSMLayer": (partial(TFSM, saved), "not a class"),
        "partial of a partial": (partial(partial(TFSM, saved)), "not a class"),
        "partial of an instance": (
            partial(layer("TFSMLayer", {"filepath": saved})),
            "not a class or an instance",
        ),
        "class in the arguments": (
            partial(LOG, log_offset=TFSM),
            "not a class",
        ),
        "layer in the arguments": (
            partial(LOG, log_offset=layer("ReLU", {})),
            "plain values",
        ),
        "class in a list": (partial(LOG, [TFSM]), "plain values"),
        "class in a dictionary": (
            partial(LOG, log_offset={"of": [{"one": TFSM}]}),
            "plain values",
        ),
        "class of this package": (
            partial(function("leaf_audio>PCENLayer", "leaf_audio")),
            "not a class",
        ),
        "function of Keras in a partial": (
            partial(function("cond", "keras.ops"), True, 1),
            "be one of keras.activations",
        ),
        "function of another package": (
            partial(function("stranger>run", "stranger"), mark),
            "must hold a function of leaf_audio",
        ),
        "os.system in a partial": (
            partial(function("system", "os", "os.system"), f"touch {mark}"),
            "Could not locate function 'system'",
        ),
        "os.system": (
            function("system", "os", "os.system"),
            "Could not locate function 'system'",
        ),
        "os.system of builtins": (
            function("system", "builtins", "leaf_audio>system"),
            "Could not locate function 'system'",
        ),
        "os.system of keras": (
            function("os.system", "keras", "keras>os.system"),
            "keras.os.system",
        ),
        "importable class": (
            layer("Popen", {"args": ["touch", mark]}, "subprocess"),
            "Could not locate class 'Popen'",
        ),
        "importable class under a registered name": (
            layer(
                "Popen",
                {"args": ["touch", mark]},
                "subprocess",
                "leaf_audio>Popen",
            ),
            "Could not locate class 'Popen'",
        ),
        "Lambda with Python code": (run_python, "disallowed by default"),
        "Lambda in a Sequential": (
            layer(
                "Sequential",
                {"name": "s", "layers": [run_python]},
                module="keras",
            ),
            "disallowed by default",
        ),
        "Python code alone": (code, "disallowed by default"),
        "TFSMLayer": (
            layer("TFSMLayer", {"filepath": saved}),
            "disallowed by default",
        ),
        "a class": (TFSM, "not a class"),
        "a function with effects": (
            function("set_random_seed", "keras.utils"),
            "keras.activations or keras.ops",
        ),
        "a function that loads": (
            function("load_model", "keras.saving"),
            "not a modeling function",
        ),
        "a partial without parts": (
            {"class_name": "functools.partial", "config": [1]},
            "must have a function",
        ),
    }


NAMES = list(hostile_values(pathlib.Path("nowhere")))


def edited(source, target, change):
    """Copies a `.keras` file with a changed config."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config)
            new.writestr(name, content)
    return target


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A saved classifier of a small Leaf and a ConvNet."""
    path = tmp_path_factory.mktemp("honest") / "best.keras"
    model = models.AudioClassifier(
        2,
        frontend.Leaf(n_filters=4, sample_rate=4000, tolerance=0),
        models.ConvNet([2], functools.partial(models.ConvBlock, dropout=0.1)),
    )
    model(np.zeros((1, 800), "float32"))
    model.save(path)
    return path


@pytest.fixture(autouse=True)
def stranger():
    """A function that another package has registered, and that does harm."""

    @keras.saving.register_keras_serializable("stranger", "run")
    def run(path, *_):
        pathlib.Path(path).touch()

    yield
    keras.saving.get_custom_objects().pop("stranger>run")


def put(path, value):
    """Returns a change that sets an entry deep in a config."""

    def change(config):
        *parents, last = path
        for name in parents:
            config = config[name]
        config[last] = value

    return change


FRONTEND = ("config", "frontend", "config")


@pytest.mark.parametrize("name", NAMES)
def test_a_compression_that_would_run_code_is_refused(name, honest, tmp_path):
    value, why = hostile_values(tmp_path)[name]
    file = edited(
        honest,
        tmp_path / "best.keras",
        put((*FRONTEND, "compression_fn"), value),
    )
    with pytest.raises((ValueError, TypeError), match=f"(?s){why}"):
        keras.models.load_model(file)
    with pytest.raises(ValueError, match=f"(?s)best.keras.*({why})"):
        from_trained(file)
    with pytest.raises((ValueError, TypeError), match=f"(?s){why}"):
        serialization.deserialize(value)
    assert not (tmp_path / MARK).exists()


PLACES = {
    "compression_fn": (*FRONTEND, "compression_fn"),
    "conv1d_cls": (*FRONTEND, "conv1d_cls"),
    "pooling_cls": (*FRONTEND, "pooling_cls"),
    "activation": (*FRONTEND, "activation"),
    "spec_augment": (*FRONTEND, "spec_augment"),
    "complex_conv_init": (*FRONTEND, "complex_conv_init"),
    "regularizer_fn": (*FRONTEND, "regularizer_fn"),
    "n_filters": (*FRONTEND, "n_filters"),
    "frontend": ("config", "frontend"),
    "encoder": ("config", "encoder"),
    "block": ("config", "encoder", "config", "block", 0),
    "block activation": (
        *("config", "encoder", "config", "block", 0, "config"),
        "activation",
    ),
    "pcen alpha": (*FRONTEND, "compression_fn", "config", "alpha"),
    "kernel_initializer": (
        *(*FRONTEND, "conv1d_cls", "config"),
        "kernel_initializer",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_argument_of_any_part_runs_code(place, honest, tmp_path):
    values = hostile_values(tmp_path)
    for name in (
        "partial of TFSMLayer",
        "function of another package",
        "os.system in a partial",
        "importable class",
        "Lambda with Python code",
        "TFSMLayer",
    ):
        change = put(PLACES[place], values[name][0])
        file = edited(honest, tmp_path / "best.keras", change)
        with pytest.raises(ValueError, match="best.keras"):
            serialization.load_model(file)
    assert not (tmp_path / MARK).exists()


def test_a_run_with_a_hostile_model_is_refused_by_prediction_and_evaluation(
    honest, tmp_path
):
    value, _ = hostile_values(tmp_path)["partial of TFSMLayer"]
    change = put((*FRONTEND, "compression_fn"), value)
    edited(honest, tmp_path / "best.keras", change)
    about = {"name": "any", "labels": ["a", "b"], "sample_rate": 4000}
    text = json.dumps({"data": about})
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="best.keras.*a class"):
        serving.TrainedClassifier.from_run(tmp_path, [])

    class Data:
        counts = {"test": 1}
        clips = {"test": None}

    with pytest.raises(ValueError, match="best.keras.*a class"):
        training.evaluate(
            tmp_path, "any", load=lambda *_, **__: Data(), prepare=None
        )


def test_what_the_package_saves_is_restored():
    for value in (
        functools.partial(frontend.log_compression, log_offset=1e-3),
        functools.partial(frontend.db_compression, top_db=None, ref="max"),
        functools.partial(
            functools.partial(frontend.db_compression, amin=1e-8), top_db=60.0
        ),
    ):
        again = serialization.deserialize(
            json.loads(json.dumps(serialization.serialize(value)))
        )
        assert again.func is value.func
        assert again.keywords == value.keywords
    for value in (frontend.db_compression, keras.activations.relu):
        saved = serialization.serialize(value)
        assert serialization.deserialize(saved) is value
    init = initializers.GaborInit(method="bark")
    again = serialization.deserialize(serialization.serialize(init))
    assert again.get_config() == init.get_config()


def test_a_trusted_file_may_hold_a_partial_of_ones_own_function(tmp_path):
    @keras.saving.register_keras_serializable("own")
    def power(energies, exponent):
        return energies**exponent

    mel = frontend.MelFilterbanks(
        compression_fn=functools.partial(power, exponent=0.3)
    )
    model = keras.Sequential([keras.Input((1600,)), mel])
    model.save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match="load it with safe_mode=False"):
        keras.models.load_model(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras", safe_mode=False)
    x = np.random.default_rng(0).normal(size=(1, 1600)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(x)),
        keras.ops.convert_to_numpy(model(x)),
        rtol=1e-5,
    )
    keras.saving.get_custom_objects().pop("own>power")


def test_a_lambda_compresses_and_is_saved_as_keras_saves_it(tmp_path):
    exponent = 0.3

    def root(energies):
        return keras.ops.power(energies, exponent)

    x = np.random.default_rng(0).normal(size=(2, 1600)).astype("float32")
    plain = keras.ops.convert_to_numpy(
        frontend.MelFilterbanks(compression_fn=None)(x)
    )
    for made in (
        layers.Lambda(root),
        layers.Lambda(lambda e: root(e)),
        keras.Sequential([layers.Lambda(root), layers.Rescaling(1.0)]),
    ):
        for make in (frontend.Leaf, frontend.MelFilterbanks):
            assert make(compression_fn=made)(x).shape == (2, 10, 40)
        found = frontend.MelFilterbanks(compression_fn=made)(x)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found), plain**0.3, rtol=1e-4
        )

    mel = frontend.MelFilterbanks(compression_fn=layers.Lambda(lambda e: 2 * e))
    model = keras.Sequential([keras.Input((1600,)), mel])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.models.load_model(tmp_path / "lambda.keras")
    loaded = keras.models.load_model(tmp_path / "lambda.keras", safe_mode=False)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(x)), 2 * plain, rtol=1e-4
    )


@pytest.mark.parametrize(
    "function", [keras.activations.get, keras.activations.deserialize]
)
def test_a_function_that_makes_functions_is_no_activation(function):
    saved = serialization.serialize(functools.partial(function, "relu"))
    with SafeModeScope(True):
        with pytest.raises(ValueError, match="be one of keras.activations"):
            serialization.deserialize(saved)


def test_an_activation_with_its_arguments_is_restored():
    leaky = functools.partial(keras.activations.leaky_relu, negative_slope=0.5)
    with SafeModeScope(True):
        again = serialization.deserialize(serialization.serialize(leaky))
    assert again.func is leaky.func and again.keywords == leaky.keywords
