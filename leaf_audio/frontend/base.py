"""The contract that all frontends keep, and the base class that keeps it.

A frontend turns waveforms into features:

- Inputs: waveforms of shape `(batch, time)` or `(batch, time, 1)`, of any
  floating-point dtype. The number of samples may be unknown when the frontend
  is built, and so may the length of the axis of channels. That there is one
  channel is then checked when the waveforms arrive.
- Outputs: features of shape `(batch, ceil(time / stride), n_filters)`. A
  compression may append an axis of channels.
- Units: the window length and the hop between frames (the stride) are given in
  milliseconds. In samples they are `sample_rate * ms // 1000 + 1` and
  `sample_rate * ms // 1000`, as in the release of LEAF. They must be less than
  2**20 samples.
- Precision: filters and energies are computed in float32, or in float64 under a
  float64 policy. The result is cast to the compute dtype of the dtype policy.
- Masks: a mask of shape `(batch, time)` marks the valid samples. The clip of an
  example ends at its last valid sample, and has the features that it has alone,
  without what follows. The mask that is returned has the shape
  `(batch, frames)`. Frame m is valid if sample `m * stride` is, so a clip of n
  samples has `ceil(n / stride)` valid frames. Masked samples before the end of
  a clip, as in a mask with holes or padding on the left, are replaced by
  zeros. They count as silence in the clip. Statistics over time leave their
  frames out.
- Channels: with `multichannel=True`, waveforms may have the shape
  `(batch, time, channels)`. Each channel is transformed like a waveform of its
  own. Features then have the shape
  `(batch, ceil(time / stride), n_filters, channels)`, which 2-D convolutions
  take.

`Spectrogram` and `MelFilterbanks` also offer the frames of other libraries
(`center`, `pad_end`), whose number differs. Leaf's `pooling_padding="valid"`
keeps only the frames whose window lies within the input.

To add a frontend:

1. Write a subclass of `Frontend` in a file of its own in this package, and
   register it with `@keras.saving.register_keras_serializable("leaf_audio")`.
2. In `__init__`, pass the arguments of the base class on, check and store the
   others under their own names, and create the layers. Give the layers
   `dtype=self._internal_dtype`.
3. In `build`, build the layers, and call `_finish_build` at the end.
4. Write `_compute_energies`, which computes the energies of one channel, and
   `_energies_shape`, which returns their shape. If each frame depends on a
   bounded stretch of audio, write `_reach`, and the frontend can stream. If the
   filters are learned, write `filter_layer`: `leaf_audio.diagnostics` shows the
   filters of the layer that it returns.
5. Write `get_config`, with every argument of its own.
6. Export the class in `leaf_audio/frontend/__init__.py` and add it to
   `FRONTENDS` in `tests/frontend/frontend_makers.py`. The tests of the
   contract, of saving, of training and of mixed precision then cover it.

`spectrogram.Spectrogram` is a short example. A frontend whose computation
depends on its learned filters derives from `planned.PlannedFrontend`.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    check_bool,
    check_choice,
    check_positive,
    check_size,
)
from leaf_audio.common.framing import (
    clip_lengths,
    is_before,
    zero_where_masked,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip
from leaf_audio.common.portable import is_portable
from leaf_audio.common.serialization import deserialize, serialize
from leaf_audio.common.sizes import frame_sizes, wide_dtype
from leaf_audio.frontend.channels import (
    fold_channels,
    folded_shape,
    is_one_channel,
    num_channels,
    one_channel,
    unfold_channels,
    unfolded_shape,
)
from leaf_audio.frontend.held import Holdable
from leaf_audio.frontend.layer_calls import (
    build_chain,
    call_layer,
    check_keeps_frames,
    check_mask,
    copy_if_layer,
    output_shape_of,
)
from leaf_audio.frontend.streaming import Streamable
from leaf_audio.initializers import FrontendInitializer, mel
from leaf_audio.postprocessing import (
    PCENLayer,
    SpecAugment,
    db_compression,
    log_compression,
)

Tensor = Any
Shape = tuple[int | None, ...]

# Smaller energies are replaced by this value: their logarithm must be finite.
ENERGY_FLOOR = 1e-5


class Frontend(Holdable, Streamable, KnownArguments, keras.Model):
    """Base class of the frontends: checks of inputs, masks and channels.

    A subclass computes the energies of one channel in `_compute_energies`. This
    class checks the inputs, applies the mask, splits the channels, compresses,
    augments and casts. The docstring of the module states the contract.

    Args:
      n_filters: Positive integer. Number of output channels.
      sample_rate: Positive number. Sample rate of the waveforms, in Hz.
      window_len: Positive number. Length of the window, in milliseconds.
      window_stride: Positive number. Hop between frames, in milliseconds.
      compression_fn: What compresses the energies: a layer, a function, or one
        of the names `"pcen"` (PCEN as in LEAF, learned by its logarithms),
        `"log"` and `"db"`. None for no compression. A layer is copied.
      spec_augment: Boolean or layer. Whether features are augmented in
        training: True for `SpecAugment()`, False or None for no augmentation.
        A layer is copied.
      multichannel: Boolean. Whether waveforms may have any number of channels.
        Features then have an axis of channels. Defaults to False.
      min_freq: Lower edge of the band that the initial filters cover, in Hz, or
        `"auto"`. Defaults to `"auto"`.
      max_freq: Upper edge of that band in Hz, or None, 0 or `"auto"`. Defaults
        to `"auto"`. A subclass that has a band gets its edges from `_band`.
      **kwargs: Arguments of `keras.Model`, such as `name`, `dtype` and
        `trainable`.

    Raises:
      ValueError: If an argument is out of range or unknown.

    Input shape:
      `(batch, time)` or `(batch, time, 1)`; with `multichannel` also
      `(batch, time, channels)`.

    Output shape:
      `(batch, ceil(time / stride), n_filters)`; with `multichannel`
      `(batch, ceil(time / stride), n_filters, channels)`.
    """

    # The names that `compression_fn` accepts.
    _compression_names: tuple[str, ...] = ("pcen", "log", "db")

    # Smaller energies are replaced by this value before the compression.
    _energy_floor: float = 0.0

    def __init__(
        self,
        n_filters: int,
        sample_rate: float,
        window_len: float,
        window_stride: float,
        compression_fn: Any,
        spec_augment: Any,
        multichannel: bool = False,
        min_freq: float | str = "auto",
        max_freq: float | str | None = "auto",
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.n_filters = check_size("n_filters", n_filters)
        self.sample_rate = check_positive("sample_rate", sample_rate)
        self.window_len = check_positive("window_len", window_len)
        self.window_stride = check_positive("window_stride", window_stride)
        self.multichannel = check_bool("multichannel", multichannel)
        self.min_freq = min_freq
        self.max_freq = max_freq
        if self._band_is_given():
            mel.check_band(*self._band(), sample_rate)
        self.supports_masking = True
        # The dtype of filters and energies: 16 bits would be too few.
        self._internal_dtype = wide_dtype(self.variable_dtype)
        self._window_size, self._stride = self._frame_sizes()
        self._compression = self._make_compression(compression_fn)
        self._spec_augment = self._make_augmentation(spec_augment)
        self._stream_steps = self._make_stream_steps()

    def _frame_sizes(self) -> tuple[int, int]:
        """Returns the window's length and the hop, in samples."""
        in_ms = self.window_len, self.window_stride
        return frame_sizes(self.sample_rate, *in_ms)

    def _make_compression(self, compression_fn: Any) -> Callable | None:
        if isinstance(compression_fn, str):
            name = check_choice(
                "compression_fn", compression_fn, self._compression_names
            )
            return self._named_compression(name)
        return copy_if_layer("compression_fn", compression_fn)

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
            parametrization="log",  # Adam would bring s to 0 otherwise.
            dtype=self._internal_dtype,
        )

    def _make_augmentation(self, spec_augment: Any) -> Callable | None:
        if spec_augment is True:
            spec_augment = SpecAugment(dtype=self._internal_dtype)
        elif spec_augment is None or spec_augment is False:
            return None
        elif not isinstance(spec_augment, keras.layers.Layer):
            # A function could not tell training from inference.
            raise ValueError(
                "`spec_augment` must be True, False or a layer. "
                f"Received: spec_augment={spec_augment!r}."
            )
        return copy_if_layer("spec_augment", spec_augment)

    def _complete_initializer(self, init: Any) -> Any:
        """Fills in settings of an initializer from those of this frontend.

        Args:
          init: Initializer, or None.

        Returns:
          A copy of `init` whose sample rate and window length, where they are
          None, are those of this frontend. An initializer without such settings
          is returned as it is.
        """
        if isinstance(init, FrontendInitializer):
            return init.following(self.sample_rate, self.window_len)
        return init

    def _band_is_given(self) -> bool:
        return not (self.min_freq == "auto" and self.max_freq == "auto")

    def _band(self) -> tuple[float, float]:
        """Returns the edges of the band that `min_freq` and `max_freq` set.

        Returns:
          The lower and the upper edge, in Hz. Where they are `"auto"`, they are
          60 Hz and 97.5 % of the Nyquist frequency.
        """
        return (
            mel.resolve_min_freq(self.min_freq),
            mel.resolve_max_freq(self.max_freq, self.sample_rate),
        )

    def _check_band_is_free(self, argument: str, value: Any) -> None:
        """Raises a ValueError if a band is given together with filters.

        Args:
          argument: Name of the argument that decides on the initial filters.
          value: Value of that argument. None leaves the filters to the band.
        """
        if value is not None and self._band_is_given():
            raise ValueError(
                "`min_freq` and `max_freq` set the band of the default "
                f"filters. They must not be given together with `{argument}`, "
                "which has its own filters. Give the band to an initializer, "
                "as in `complex_conv_init=GaborInit(min_freq=100.0, "
                "max_freq=4000.0)`. Received: "
                f"min_freq={self.min_freq!r}, max_freq={self.max_freq!r}, "
                f"{argument}={value!r}."
            )

    @property
    def compression(self) -> Callable | None:
        """The layer or function that compresses the energies, or None."""
        return self._compression

    # A method and not a property: Keras names the weights in a file after the
    # first attribute that holds their layer, and would find a property first.
    def filter_layer(self) -> keras.layers.Layer | None:
        """Returns the layer that holds the learnable filters, or None."""
        return None

    def fixed_centres_hz(self) -> np.ndarray | None:
        """Returns the centre frequencies in Hz, or None if they are learned."""
        return None

    def _compute_energies(self, audio: Tensor, mask: Tensor | None) -> Tensor:
        """Computes the energies of waveforms of one channel.

        Args:
          audio: Waveforms of shape `(batch, time, 1)` in the internal dtype,
            with zeros where the mask is False.
          mask: Boolean tensor of shape `(batch, time)`, or None.

        Returns:
          Energies of shape `(batch, frames, n_filters)`.
        """
        raise NotImplementedError

    def _compute_features(
        self, audio: Tensor, mask: Tensor | None, training: bool | None
    ) -> Tensor:
        energies = self._compute_energies(audio, mask)
        return self._compress(
            energies, self.compute_mask(audio, mask), training
        )

    def _energies_shape(self, batch: int | None, time: int | None) -> Shape:
        """Computes the shape of the energies, before the compression.

        Args:
          batch: Number of waveforms, or None if unknown.
          time: Number of samples, or None if unknown.

        Returns:
          The shape `(batch, frames, n_filters)`.
        """
        raise NotImplementedError

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        self._check_inputs(inputs.shape, inputs.dtype)
        audio = ops.cast(inputs, self._internal_dtype)
        if not self.multichannel:
            audio = one_channel(audio)
        elif len(inputs.shape) == 2:
            audio = audio[..., None]
        if mask is not None:
            check_mask(self.name, inputs.shape, mask.shape)
            mask = ops.cast(mask, "bool")
            audio = zero_where_masked(audio, mask)
        # It is passed on because on JAX `fit` gives it to the outermost model.
        in_steps = self._training_of_steps(training)
        if self.multichannel:
            channel_mask = mask
            if mask is not None:
                channel_mask = ops.repeat(mask, ops.shape(audio)[2], axis=0)
            features = self._compute_features(
                fold_channels(audio), channel_mask, in_steps
            )
            features = unfold_channels(features, audio)
        else:
            features = self._compute_features(audio, mask, in_steps)
        if self._spec_augment is not None:
            frame_mask = self.compute_mask(inputs, mask)
            features = call_layer(
                self._spec_augment, features, frame_mask, training
            )
        return ops.cast(features, self.compute_dtype)

    def _fixed_layers(self) -> list[keras.layers.Layer]:
        """Returns the layers that an argument such as `learn_filters` fixes."""
        return []

    @property
    def trainable(self) -> bool:
        """Whether the frontend is trained; settable.

        A frontend that is frozen and unfrozen again, alone or as a part of a
        model, learns what it learned before. What its arguments have fixed
        (`learn_filters=False`, `learn_pooling=False`) stays fixed.
        """
        return keras.Model.trainable.fget(self)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Keras sets the attribute of every layer inside a layer to `value`.
        keras.Model.trainable.fset(self, value)
        for layer in self._fixed_layers():
            layer.trainable = False

    def _finish_build(self, input_shape: Shape) -> None:
        """Builds the augmentation, and freezes the layers if asked to.

        Args:
          input_shape: Shape of the waveforms, as `build` has received it.
        """
        build_chain(
            [self._spec_augment], self.compute_output_shape(input_shape)
        )
        if not self.trainable:
            # Keras decides what to train by the outermost layer and by the
            # weights themselves, not by the layers in between.
            for layer in self.layers:
                layer.trainable = False

    def _check_inputs(self, shape: Shape, dtype: Any = None) -> None:
        """Raises a ValueError if inputs are not waveforms of this frontend."""
        received = f"Received: inputs of shape {tuple(shape)}"
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{self.name} takes waveforms of shape (batch, time) or "
                f"(batch, time, 1). {received}."
            )
        if not self.multichannel and not is_one_channel(shape):
            raise ValueError(
                f"{self.name} takes waveforms of one channel: average the "
                "channels, put them on the batch axis, or set "
                f"multichannel=True to transform each. {received}."
            )
        if shape[1] == 0 or num_channels(shape) == 0:
            raise ValueError(
                f"{self.name} needs at least one sample. {received}."
            )
        if dtype is not None and not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"{self.name} takes floating-point waveforms: divide integers "
                f"by their maximum. {received} and dtype "
                f"{keras.backend.standardize_dtype(dtype)}."
            )

    def _compress(
        self, energies: Tensor, frame_mask: Tensor | None, training: bool | None
    ) -> Tensor:
        """Compresses energies, raised to the floor.

        Args:
          energies: Energies of shape `(batch, frames, n_filters)`.
          frame_mask: The mask that the frontend returns, or None. Energies
            after the last valid frame of a clip are replaced by 0: a
            compression that depends on the maximum over time must not see them.
          training: Whether the call is for training.

        Returns:
          The features.
        """
        if frame_mask is not None:
            lengths = clip_lengths(frame_mask)
            energies = zero_where_masked(
                energies, is_before(lengths, ops.shape(energies)[1])
            )
        energies = self._raise_to_floor(energies)
        if self._compression is None:
            return energies
        return call_layer(self._compression, energies, frame_mask, training)

    def _raise_to_floor(self, energies: Tensor) -> Tensor:
        if not self._energy_floor:
            return energies
        if is_portable():
            # LiteRT of TensorFlow 2.21 refuses a maximum after a max-pooling.
            return ops.relu(energies - self._energy_floor) + self._energy_floor
        return clip(energies, low=self._energy_floor)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self._check_inputs(input_shape)
        if not self.multichannel:
            return self._features_shape(*input_shape[:2])
        shape = self._features_shape(*folded_shape(input_shape)[:2])
        return unfolded_shape(shape, input_shape)

    def _features_shape(self, batch: int | None, time: int | None) -> Shape:
        energies = self._energies_shape(batch, time)
        features = output_shape_of(self._compression, energies)
        check_keeps_frames(self._compression, energies, features)
        return features

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
            # The layer, even if its name was given: it may have been frozen.
            "compression_fn": serialize(self._compression),
            "spec_augment": serialize(self._spec_augment),
            "multichannel": self.multichannel,
            "min_freq": self.min_freq,
            "max_freq": self.max_freq,
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "Frontend":
        """Creates a frontend from the config that `get_config` has returned."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(
                **{
                    name: value if name == "dtype" else deserialize(value)
                    for name, value in config.items()
                }
            )
