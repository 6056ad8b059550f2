"""The contract of all frontends, and what it takes to keep it.

Waveforms of shape `(batch, time)` or `(batch, time, 1)`, of any floating dtype
and of known or unknown length, become features of shape
`(batch, ceil(time / stride), n_filters)`. Window and stride are given in ms and
rounded as in LEAF's release: `sr * ms // 1000 + 1` and `sr * ms // 1000`
samples. Filters and energies are computed in float32 (float64 under a float64
policy), the result is cast to the dtype policy's compute dtype.

Given a mask `(batch, time)`, a frontend takes masked samples for zeros, leaves
masked frames out of its statistics and answers a mask `(batch, frames)`, in
which frame m is valid where sample `m * stride` is.

With `multichannel`, waveforms may be `(batch, time, channels)`; each channel is
taken for a waveform of its own, and features get an axis of channels, as 2-D
convolutions take it: `(batch, ceil(time / stride), n_filters, channels)`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_positive,
    check_positive_int,
)
from leaf_audio.common.serialization import clone_layer, deserialize, serialize
from leaf_audio.common.sizes import wide_dtype, window_size, window_stride
from leaf_audio.frontend.channels import (
    fold_channels,
    folded_shape,
    num_channels,
    unfold_channels,
    unfolded_shape,
)
from leaf_audio.initializers import FrontendInitializer
from leaf_audio.postprocessing import (
    PCENLayer,
    SpecAugment,
    db_compression,
    log_compression,
)

Tensor = Any
Shape = tuple[int | None, ...]

# Energies below count as this, so that a logarithm of them is finite.
ENERGY_FLOOR = 1e-5


class Frontend(keras.Model):
    """Base of the frontends: the contract on inputs, outputs and masks.

    A subclass computes its features in `_features`; the base compresses on
    demand and augments.

    Args:
      n_filters: number of output channels.
      sample_rate: of the waveforms, in Hz.
      window_len: in ms.
      window_stride: in ms.
      compression_fn: a layer or a function on energies; a name, `"pcen"`
        (LEAF's learnable PCEN), `"log"` or `"db"`; None for none. A layer is
        copied.
      spec_augment: whether to augment in training; a layer is copied.
      multichannel: whether to take waveforms of any number of channels, and to
        give features an axis of channels.
      **kwargs: of keras.Model, such as `name`, `dtype`, `trainable`.
    """

    # Names that `compression_fn` may have.
    _compressions: tuple[str, ...] = ("pcen", "log", "db")

    def __init__(
        self,
        n_filters: int,
        sample_rate: float,
        window_len: float,
        window_stride: float,
        compression_fn: Any,
        spec_augment: Any,
        multichannel: bool = False,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.n_filters = check_positive_int("n_filters", n_filters)
        self.sample_rate = check_positive("sample_rate", sample_rate)
        self.window_len = check_positive("window_len", window_len)
        self.window_stride = check_positive("window_stride", window_stride)
        self.multichannel = check_bool("multichannel", multichannel)
        self.supports_masking = True
        self._wide = wide_dtype(self.variable_dtype)
        self._window_size = _window_samples(sample_rate, window_len)
        self._stride = _stride_samples(sample_rate, window_stride)
        self._compression = self._make_compression(compression_fn)
        if spec_augment is True:
            spec_augment = SpecAugment(dtype=self._wide)
        elif not spec_augment:
            spec_augment = None
        elif not isinstance(spec_augment, keras.layers.Layer):
            # A function would not know training from inference.
            raise ValueError(
                "`spec_augment` must be True, False or a layer. "
                f"Received: spec_augment={spec_augment!r}."
            )
        self._spec_augment = as_callable("spec_augment", spec_augment)

    def _make_compression(self, compression_fn: Any) -> Callable | None:
        if isinstance(compression_fn, str):
            return self._named_compression(
                check_choice(
                    "compression_fn", compression_fn, self._compressions
                )
            )
        return as_callable("compression_fn", compression_fn)

    def _named_compression(self, name: str) -> Callable:
        if name == "log":
            return log_compression
        if name == "db":
            return db_compression
        return PCENLayer(
            alpha=0.96,
            smooth_coef=0.04,
            delta=2.0,
            root=2.0,
            floor=1e-12,
            trainable=True,
            learn_smooth_coef=True,
            per_channel_smooth_coef=True,
            dtype=self._wide,
        )

    def _following(self, init: Any) -> Any:
        """Has an initializer that can take over the frontend's settings."""
        if isinstance(init, FrontendInitializer):
            return init.following(self.sample_rate, self.window_len)
        return init

    @property
    def compression(self) -> Callable | None:
        """The layer or function that compresses the energies, if any."""
        return self._compression

    def _features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        """Computes `(batch, frames, channels)`.

        Args:
          audio: `(batch, time, 1)`, zero where masked.
          mask: `(batch, time)`, or None.
          training: whether for training, or None for what the call is for.
        """
        raise NotImplementedError

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        """Computes the shape before compression."""
        raise NotImplementedError

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        self._check_inputs(inputs.shape, inputs.dtype)
        audio = ops.cast(inputs, self._wide)
        if len(inputs.shape) == 2:
            audio = audio[..., None]
        if mask is not None:
            audio = zero_where_masked(audio, mask)
        # On JAX a model's `fit` tells the model alone that it is training.
        if self.multichannel:
            if mask is not None:
                channel_mask = ops.repeat(mask, ops.shape(audio)[2], axis=0)
            else:
                channel_mask = None
            features = self._features(
                fold_channels(audio), channel_mask, training
            )
            features = unfold_channels(features, audio)
        else:
            features = self._features(audio, mask, training)
        if self._spec_augment is not None:
            frame_mask = self.compute_mask(inputs, mask)
            features = call_layer(
                self._spec_augment, features, frame_mask, training
            )
        return ops.cast(features, self.compute_dtype)

    def _end_build(self, input_shape: Shape) -> None:
        build_in_turn(
            [self._spec_augment], self.compute_output_shape(input_shape)
        )
        if not self.trainable:
            # Keras asks the outermost layer and the weights, not those between.
            for layer in self.layers:
                layer.trainable = False

    def _check_inputs(self, shape: Shape, dtype: Any = None) -> None:
        received = f"Received: inputs of shape {tuple(shape)}"
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{self.name} takes waveforms of shape (batch, time) or "
                f"(batch, time, 1). {received}."
            )
        if not self.multichannel and num_channels(shape) != 1:
            raise ValueError(
                f"{self.name} takes waveforms of one channel: average the "
                "channels, put them on the batch axis, or have each "
                f"transformed, by multichannel=True. {received}."
            )
        if shape[1] == 0 or num_channels(shape) == 0:
            raise ValueError(
                f"{self.name} needs a sample at least. {received}."
            )
        if dtype is not None and not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"{self.name} takes floating-point waveforms: divide integers "
                f"by their maximum. {received} and dtype "
                f"{keras.backend.standardize_dtype(dtype)}."
            )

    def _compress(
        self,
        energies: Tensor,
        frame_mask: Tensor | None,
        training: bool | None,
    ) -> Tensor:
        if self._compression is None:
            return energies
        return call_layer(self._compression, energies, frame_mask, training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._check_inputs(input_shape)
        shape = self._energies_shape(*folded_shape(input_shape)[:2])
        shape = shape_after(self._compression, shape)
        if not self.multichannel:
            return shape
        return unfolded_shape(shape, input_shape)

    def compute_output_spec(
        self, inputs: Any, training: Any = None, mask: Any = None
    ) -> keras.KerasTensor:
        self._check_inputs(inputs.shape, inputs.dtype)
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if previous_mask is None:
            return None
        return previous_mask[:, :: self._stride]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_filters": self.n_filters,
            "sample_rate": self.sample_rate,
            "window_len": self.window_len,
            "window_stride": self.window_stride,
            # As a layer also where it was a name: it may have been frozen.
            "compression_fn": serialize(self._compression),
            "spec_augment": serialize(self._spec_augment),
            "multichannel": self.multichannel,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None):
        """Creates the frontend whose `get_config` this is."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(
                **{
                    name: value if name == "dtype" else deserialize(value)
                    for name, value in config.items()
                }
            )


def _window_samples(sample_rate: float, window_ms: float) -> int:
    if sample_rate * window_ms < 1000:
        raise ValueError(
            "`window_len` must be at least one sample. Received: "
            f"window_len={window_ms} ms at sample_rate={sample_rate}."
        )
    return window_size(sample_rate, window_ms)


def _stride_samples(sample_rate: float, stride_ms: float) -> int:
    stride = window_stride(sample_rate, stride_ms)
    if stride < 1:
        raise ValueError(
            "`window_stride` must be at least one sample. Received: "
            f"window_stride={stride_ms} ms at sample_rate={sample_rate}."
        )
    return stride


def as_callable(argument: str, value: Any) -> Callable | None:
    """Returns a copy of a layer, and a function or None as they are."""
    if isinstance(value, keras.layers.Layer):
        return clone_layer(value)
    # A class would be called on the energies, for an argument.
    if value is None or (callable(value) and not isinstance(value, type)):
        return value
    raise ValueError(
        f"`{argument}` must be a layer, a function or None. "
        f"Received: {argument}={value!r}."
    )


def call_layer(
    layer: Callable,
    inputs: Tensor,
    mask: Tensor | None,
    training: bool | None = None,
) -> Tensor:
    """Calls a layer or a function, with what else a layer takes."""
    if not isinstance(layer, keras.layers.Layer):
        return layer(inputs)
    given = {"mask": mask, "training": training}
    return layer(
        inputs,
        **{
            name: value
            for name, value in given.items()
            if value is not None and takes_argument(layer, name)
        },
    )


def takes_argument(layer: keras.layers.Layer, argument: str) -> bool:
    """Tells whether calls of a layer take an argument of this name."""
    return argument in inspect.signature(layer.call).parameters


def zero_where_masked(x: Tensor, mask: Tensor) -> Tensor:
    """Sets `(batch, time, channels)` to 0 where `(batch, time)` is False."""
    return ops.where(mask[..., None], x, ops.zeros_like(x))


def build_in_turn(layers: Sequence[Callable | None], shape: Shape) -> None:
    """Builds layers that work one on another's output, in this order."""
    for layer in layers:
        if isinstance(layer, keras.layers.Layer) and not layer.built:
            # A call also builds the layers within one that has no `build`.
            layer(keras.KerasTensor(shape))
        shape = shape_after(layer, shape)


def shape_after(layer: Callable | None, shape: Shape) -> Shape:
    """Computes the shape that a layer or a function makes."""
    if layer is None:
        return shape
    if not isinstance(layer, keras.layers.Layer):
        layer = keras.layers.Lambda(layer)
    try:
        return tuple(layer.compute_output_shape(shape))
    except NotImplementedError:
        # Layers need not say; a call on a symbol tells, and builds.
        layer = layer if layer.built else clone_layer(layer)
        return tuple(layer(keras.KerasTensor(shape)).shape)
