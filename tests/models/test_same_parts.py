"""Which arguments of a part matter for what it computes from its weights."""

import keras
import pytest

from leaf_audio import frontend, models, postprocessing
from leaf_audio.models import same_parts
from leaf_audio.models.same_parts import difference

pytestmark = pytest.mark.any_backend

Leaf, PCEN = frontend.Leaf, postprocessing.PCENLayer


def mobile_net(**arguments):
    return keras.applications.MobileNetV2(
        include_top=False,
        weights=None,
        input_shape=(None, None, 1),
        **arguments,
    )


@pytest.mark.parametrize(
    "one, other",
    [
        (Leaf(min_freq=100.0), Leaf()),
        (Leaf(tolerance=0, spec_augment=True, name="other"), Leaf()),
        (Leaf(learn_filters=False, learn_pooling=False), Leaf()),
        (Leaf(compression_fn=PCEN(alpha=0.5)), Leaf(compression_fn=PCEN())),
        (
            postprocessing.ExponentialMovingAverage(0.1),
            postprocessing.ExponentialMovingAverage(0.2),
        ),
        (models.ResNet(drop_path=0.1), models.ResNet()),
        (models.PANN(1, dropout_rate=0.5), models.PANN(1)),
        (models.BCResNet(dropout=0.5), models.BCResNet()),
    ],
)
def test_what_has_no_effect_may_differ(one, other):
    assert difference(one, other) is None


def test_every_initial_value_is_an_argument():
    layers = PCEN(), postprocessing.Log1p()
    assert same_parts._INITIAL_VALUES <= {
        name for layer in layers for name in layer.get_config()
    }


@pytest.mark.slow
def test_the_names_of_inner_layers_may_differ():
    assert difference(mobile_net(alpha=0.35), mobile_net(alpha=0.35)) is None
    name, *_ = difference(mobile_net(alpha=0.35), mobile_net(alpha=0.5))
    assert "filters" in name


@pytest.mark.parametrize(
    "one, other, expected",
    [
        (
            Leaf(window_stride=5.0),
            Leaf(),
            ("window_stride", "5.0", "10.0"),
        ),
        (
            Leaf(compression_fn="log"),
            Leaf(),
            ("compression_fn", "log_compression", "PCENLayer"),
        ),
        (
            Leaf(compression_fn=PCEN(floor=1e-3)),
            Leaf(compression_fn=PCEN(floor=1e-6)),
            ("compression_fn.floor", "0.001", "1e-06"),
        ),
        (
            frontend.MelFilterbanks(min_freq=0.0),
            frontend.MelFilterbanks(),
            ("min_freq", "0.0", "60.0"),
        ),
        (
            models.ResNet(strides=[(1, 1)] * 4),
            models.ResNet(),
            ("strides", "[(1, 1), (1, 1), (1, 1), (1, 1)]", "None"),
        ),
    ],
)
def test_what_has_an_effect_is_named_with_both_values(one, other, expected):
    assert difference(one, other) == expected
