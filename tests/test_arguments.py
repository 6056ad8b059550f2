"""Every argument of every public class refuses what it cannot take.

The walk reads the signatures, so that a new argument is tried by itself.
`arguments` says which values are legal. An illegal value must raise an error of
this package that names the argument and shows the value.
"""

import functools
import time
import tracemalloc

import keras
import numpy as np
import pytest
from argument_kinds import VALUES
from arguments import (
    COSTLY,
    REQUIRED,
    arguments,
    is_legal,
)
from public_names import targets

from leaf_audio import frontend, initializers, models, postprocessing
from leaf_audio.common import checks

TARGETS = targets()
pytestmark = pytest.mark.any_backend


def complaint(name, argument, value):
    """Returns what is wrong with the answer to a value, or None.

    An error is right if it is a ValueError that names argument and value.
    """
    settings = {**REQUIRED.get(name, {}), argument: value}
    try:
        TARGETS[name](**settings)
    except ValueError as error:
        message = str(error)
        if f"{argument}={value!r}" in message.partition("Received")[2]:
            return None
        return f"raises {message!r}"
    except Exception as error:
        return f"raises {error!r}"
    return "is accepted"


@pytest.mark.parametrize("name", TARGETS)
def test_a_wrong_argument_is_named_with_its_value(name):
    wrong = {}
    for argument in arguments(name, TARGETS[name]):
        for label, value in VALUES.items():
            legal = is_legal(name, argument, label)
            if legal and name in COSTLY:
                continue
            found = complaint(name, argument, value)
            if found and not (legal and found == "is accepted"):
                wrong[f"{argument}={value!r}"] = found
    assert not wrong, "\n".join(f"{k} {v}" for k, v in wrong.items())


@pytest.mark.parametrize(
    "make, named",
    [
        (
            lambda: frontend.Leaf(window_len=1e9),
            "`window_len`.*window_len=1000000000.0",
        ),
        (
            lambda: frontend.MelFilterbanks(window_len=1e9),
            "`window_len`.*window_len=1000000000.0",
        ),
        (
            lambda: frontend.Leaf(window_stride=1e9),
            "`window_stride`.*window_stride=1000000000.0",
        ),
        (
            lambda: frontend.Spectrogram(sample_rate=1e9),
            "`window_len`.*sample_rate=1000000000.0",
        ),
        (
            lambda: frontend.EfficientLeaf(conv_win_factor=1e9),
            "`conv_win_factor`.*=1000000000.0",
        ),
        (
            lambda: initializers.GaborInit(n_fft=None, window_len=1e9)((40, 2)),
            "`window_len`.*window_len=1000000000.0",
        ),
        (
            lambda: initializers.GaborInit(n_fft=10**9),
            "`n_fft`.*n_fft=1000000000",
        ),
        (
            lambda: frontend.Leaf(n_filters=10**9),
            "`n_filters`.*n_filters=1000000000",
        ),
        (lambda: models.PANN(depth=10**9), "`depth`.*depth=1000000000"),
        (
            lambda: postprocessing.SpecAugment(time_mask_count=10**9),
            "`time_mask_count`.*=1000000000",
        ),
    ],
)
def test_a_huge_value_is_refused_before_it_takes_memory(make, named):
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(ValueError, match=named):
            make()
        assert tracemalloc.get_traced_memory()[1] < 2**26
        assert time.process_time() - started < 5
    finally:
        tracemalloc.stop()


def shape_for(layer):
    """Returns an input shape for a layer of any room."""
    room = type(layer).__module__.split(".")[1]
    if isinstance(layer, models.PANNWavBlock):
        return (2, 800, 3)
    if isinstance(layer, (models.COLA, models.SimCLR)):
        # The classifier has no frontend.
        return (2, 2, 32, 16)
    return {
        "convolution": (2, 800, 1),
        "frontend": (2, 800),
        "models": (2, 800) if isinstance(layer, models.WaveGram) else None,
    }.get(room, (2, 30, 4)) or (2, 32, 16, 1)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, one in TARGETS.items()
        if isinstance(one, type)
        and issubclass(one, keras.layers.Layer)
        and name not in COSTLY | {"SquaredModulus"}
    ],
)
def test_a_layer_with_a_large_number_is_built_or_names_it(name):
    wrong = []
    for argument in arguments(name, TARGETS[name]):
        label = next(
            (
                one
                for one in ("large", "large integer")
                if is_legal(name, argument, one)
            ),
            None,
        )
        if label is None or argument == "seed":
            continue
        settings = {**REQUIRED.get(name, {}), argument: VALUES[label]}
        try:
            layer = TARGETS[name](**settings)
            layer.build(shape_for(layer))
        except ValueError as error:
            if f"{argument}={VALUES[label]!r}" not in str(error):
                wrong.append(f"{argument}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "layer, named",
    [
        (
            postprocessing.PCENLayer(alpha=[1, 2]),
            r"`alpha` .*40 channels.*alpha=\[1, 2\]",
        ),
        (
            postprocessing.PCENLayer(root=[1.0, 2.0, 3.0]),
            r"`root` .*40 channels.*root=\[1.0, 2.0, 3.0\]",
        ),
        (
            postprocessing.PCENLayer(
                smooth_coef=[0.1, 0.2], per_channel_smooth_coef=True
            ),
            r"`smooth_coef` .*smooth_coef=\[0.1, 0.2\]",
        ),
        (
            postprocessing.ExponentialMovingAverage(
                [0.1, 0.2], per_channel=True
            ),
            r"`coeff_init` .*coeff_init=\[0.1, 0.2\]",
        ),
    ],
)
def test_values_for_another_number_of_channels_are_named_at_build(layer, named):
    with pytest.raises(ValueError, match=named):
        layer.build((None, 100, 40))


@pytest.mark.parametrize(
    "init",
    [
        initializers.GaborInit,
        functools.partial(initializers.GaborInit, min_freq=60.0),
        initializers.GaborInit(),
    ],
)
def test_a_class_or_a_partial_stands_for_the_initializer_it_makes(init):
    leaf = frontend.Leaf(complex_conv_init=init)
    assert type(leaf.complex_conv_init) is initializers.GaborInit


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"complex_conv_init": keras.layers.Dense}, "`complex_conv_init`"),
        ({"complex_conv_init": initializers.ArrayInit}, "`complex_conv_init`"),
        ({"regularizer_fn": "no_such"}, "`regularizer_fn`.*'no_such'"),
        ({"activation": keras.layers.PReLU}, "`activation`.*PReLU"),
        ({"activation": "no_such"}, "`activation`.*'no_such'"),
        ({"conv1d_cls": models.ConvNet}, "`conv1d_cls` must make.*kernel_size"),
        ({"conv1d_cls": int}, "`conv1d_cls` must be.*class 'int'"),
        ({"pooling_cls": lambda **_: 3}, "`pooling_cls` must make.*made 3"),
        ({"compression_fn": keras.layers.ReLU}, "`compression_fn` must be"),
        ({"spec_augment": 0}, "`spec_augment` must be.*spec_augment=0"),
        ({"dtype": "int32"}, "`dtype` must be.*dtype='int32'"),
        ({"dtype": "float31"}, "`dtype` must be.*dtype='float31'"),
        ({"trainable": 1}, "`trainable` must be.*trainable=1"),
        ({"name": "a/b"}, "`name` must be.*name='a/b'"),
    ],
)
def test_a_part_of_a_leaf_that_does_not_fit_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        frontend.Leaf(**arguments)


def test_numbers_of_numpy_are_numbers():
    assert checks.check_positive_int("n", np.int64(3)) == 3
    assert checks.check_share("n", np.float32(0.5)) == 0.5
    assert checks.check_numbers("n", np.array([1, 2])) == [1, 2]
    with pytest.raises(ValueError, match="`n` must be True or False"):
        checks.check_bool("n", np.int64(1))
    with pytest.raises(ValueError, match="finite"):
        checks.check_finite("n", 10**400)
