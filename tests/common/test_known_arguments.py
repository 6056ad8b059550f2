"""An argument that a class does not have is answered with one that it has."""

import inspect

import keras
import pytest

from leaf_audio import (
    convolution,
    frontend,
    initializers,
    models,
    pooling,
    postprocessing,
)

pytestmark = pytest.mark.any_backend

# Arguments without which a class cannot be called.
REQUIRED = {
    "filters": 8,
    "kernel_size": 5,
    "num_filters": 8,
    "num_outputs": 2,
    "values": [1.0],
    "coeff_init": 0.1,
    "block": models.ConvBlock,
    "classifier": None,
    "frontend": None,
    "branches": [],
}


def public_classes():
    rooms = (
        convolution,
        frontend,
        initializers,
        models,
        pooling,
        postprocessing,
    )
    found = [
        value
        for room in rooms
        for value in vars(room).values()
        if inspect.isclass(value)
    ]
    kinds = (keras.layers.Layer, keras.initializers.Initializer)
    # LingvoSpecAugment may lack its library, which it says first.
    return [
        cls
        for cls in dict.fromkeys(found)
        if issubclass(cls, kinds)
        and not cls.__name__.startswith("_")
        and cls is not postprocessing.LingvoSpecAugment
    ]


def required(cls):
    parameters = inspect.signature(cls.__init__).parameters
    return {
        name: REQUIRED[name]
        for name, p in parameters.items()
        if name != "self"
        and p.default is p.empty
        and p.kind is p.POSITIONAL_OR_KEYWORD
    }


@pytest.mark.parametrize("cls", public_classes(), ids=lambda c: c.__name__)
def test_every_class_names_an_argument_that_it_does_not_have(cls):
    start = f"`qqq` is not an argument of {cls.__name__}"
    with pytest.raises(ValueError, match=f"^{start}.* Received: qqq=3.$"):
        cls(**required(cls), qqq=3)


@pytest.mark.parametrize(
    "cls, name, near",
    [
        (frontend.Leaf, "window_length", "window_len"),
        (frontend.Leaf, "num_filters", "n_filters"),
        (frontend.SincNet, "samplerate", "sample_rate"),
        (frontend.EfficientLeaf, "stride_facor", "stride_factor"),
        (frontend.MelFilterbanks, "pre_emphasis", None),
        (initializers.GaborInit, "min_frequency", "min_freq"),
        (initializers.PreempInit, "alfa", "alpha"),
        (pooling.GaussianLowpass, "stride", "strides"),
        (pooling.MaxPooling1D, "stride", "strides"),
        (convolution.GaborConv1D, "sort_filter", "sort_filters"),
        (convolution.FFTConv1D, "Strides", "strides"),
        (postprocessing.SpecAugment, "freq_mask_max", "freq_mask_max_bins"),
        (models.PANN, "dropout", "dropout_rate"),
    ],
)
def test_the_nearest_argument_is_named(cls, name, near):
    answer = f"Did you mean `{near}`" if near else "which takes n_filters, "
    with pytest.raises(ValueError, match=answer):
        cls(**required(cls), **{name: 1})


@pytest.mark.parametrize(
    "cls, name, answer",
    [
        (frontend.Leaf, "init_min_freq", "Use `min_freq`."),
        (frontend.SincNet, "f_max", "Use `max_freq`."),
        (frontend.Leaf, "pcen_compression", 'Use `compression_fn`: `"pcen"`'),
        (frontend.SincNet, "compression", "which fixes `compression_fn`."),
        (frontend.EfficientLeaf, "compression", "Use `compression_fn`."),
        (frontend.Leaf, "hop_length", "`window_stride`, in milliseconds."),
        (frontend.Leaf, "n_fft", "`complex_conv_init`, as in `GaborInit"),
        (frontend.Leaf, "use_legacy_complex", "all numbers are real here"),
        (frontend.MelFilterbanks, "n_mels", "Use `n_filters`."),
        (frontend.Spectrogram, "n_mels", "which takes sample_rate, "),
        (initializers.GaborInit, "default_window_len", "Use `window_len`, in"),
        (convolution.GaborConv1D, "initializer", "Use `kernel_initializer`."),
        (postprocessing.PCENLayer, "gain", "Use `alpha`."),
        (postprocessing.PCENLayer, "in_channels", "follows from the input"),
        (postprocessing.LogTBN, "append_filtered", "Use `median`: "),
        (postprocessing.TemporalBatchNormalization, "eps", "Use `epsilon`."),
    ],
)
def test_an_argument_of_another_release_is_answered_with_ours(
    cls, name, answer
):
    with pytest.raises(ValueError) as error:
        cls(**required(cls), **{name: 1})
    assert answer in str(error.value)
    assert f"Received: {name}=1." in str(error.value)


def test_all_unknown_arguments_are_named_at_once():
    message = "`sr` .* `n_filter` .* Received: sr=8000, n_filter=3."
    with pytest.raises(ValueError, match=message):
        frontend.TimeDomainFilterbanks(sr=8000, window_len=20.0, n_filter=3)


def test_a_subclass_may_have_arguments_of_its_own():
    class Louder(frontend.Leaf):
        def __init__(self, gain=2.0, **kwargs):
            super().__init__(**kwargs)
            self.gain = gain

    class Options(frontend.SincNet):
        def __init__(self, **options):
            self.threshold = options.pop("threshold", 0)
            super().__init__(**options)

    assert Louder(gain=3.0, n_filters=4).gain == 3.0
    Options(threshold=2, n_filters=4)
    with pytest.raises(ValueError, match="`gian` is not .* mean `gain`"):
        Louder(gian=3.0)


def test_keras_own_arguments_are_passed_on():
    layer = convolution.WaveformConv1D(
        8, 5, name="free", dtype="float64", trainable=False, activation="relu"
    )
    assert (layer.name, layer.dtype, layer.trainable) == (
        "free",
        "float64",
        False,
    )


def test_the_number_of_bins_is_not_an_argument():
    with pytest.raises(ValueError, match="follows from `n_fft`.*n_filters=40"):
        frontend.Spectrogram(n_filters=40)
