"""SpecAugment: random time warps, and masks over frames and bins.

Axes are `(batch, time, bins)`. Times are counted in frames, frequencies in bins
(filters). A position in the input may be fractional. The length of an example
is the number of its valid frames. They come first; the frames after them are
padding and stay as they are.

The functions are deterministic: they take random numbers as arguments, drawn
uniformly from [0, 1).
"""

from typing import Any

import keras
from keras import ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.checks import (
    MAX_SIZE,
    check_count,
    check_seed,
    check_share,
)
from leaf_audio.common.keras_checks import check_layer_arguments
from leaf_audio.common.lean_ops import clip

Tensor = Any
Shape = tuple[int | None, ...]


def warp_anchor(
    origin_draw: Tensor,
    shift_draw: Tensor,
    length: Tensor,
    max_frames: int,
    max_ratio: float,
) -> tuple[Tensor, Tensor]:
    """Chooses which frame a time warp moves, and where to.

    With a draw u, `origin = 1 + ⌊u · (length − 2)⌋`. The shift is a uniform
    integer in [−max_frames, max_frames], clipped to ±⌊max_ratio · length⌋. The
    destination is their sum.

    Args:
      origin_draw: Float tensor of shape `(batch,)`. Uniform draws in [0, 1).
      shift_draw: Float tensor of shape `(batch,)`. Uniform draws in [0, 1).
      length: Integer tensor of shape `(batch,)`. Valid frames.
      max_frames: Integer, not negative. Largest shift, in frames.
      max_ratio: Float in [0, 1]. Largest shift, as a share of the length.

    Returns:
      Origin and destination, two float32 tensors of shape `(batch,)`, in
      frames. The destination may lie outside the example.
      `time_warp_positions` clips it.
    """
    origin_draw, shift_draw, length = (
        ops.cast(value, "float32")
        for value in (origin_draw, shift_draw, length)
    )
    origin = 1 + ops.floor(origin_draw * clip(length - 2, low=0))
    shift = ops.floor(shift_draw * (2 * max_frames + 1)) - max_frames
    bound = ops.floor(max_ratio * length)
    return origin, origin + ops.clip(shift, -bound, bound)


def time_warp_positions(
    origin: Tensor, destination: Tensor, length: Tensor, num_frames: Any
) -> Tensor:
    """Computes, for each output frame of a warp, the input position to read.

    The map from output to input is piecewise linear. It maps 0 to 0,
    `destination` to `origin` and `length` to `length`. Frames from `length` on
    stay in place. The destination is clipped to [1, length − 1].

    Args:
      origin: Tensor of shape `(batch,)`. The frame that moves.
      destination: Tensor of shape `(batch,)`. The frame that it moves to.
      length: Tensor of shape `(batch,)`. Valid frames. Examples of fewer than
        two frames stay as they are.
      num_frames: Integer or integer tensor. Number of output frames.

    Returns:
      Input positions, a float32 tensor of shape `(batch, num_frames)`.
    """
    origin, destination, length = (
        ops.cast(value, "float32")[:, None]
        for value in (origin, destination, length)
    )
    movable = length >= 2
    destination = ops.minimum(clip(destination, low=1), clip(length - 1, low=1))
    rest = ops.where(movable, length - destination, 1)
    frames = ops.cast(ops.arange(num_frames), "float32")[None]
    before = frames * (origin / destination)
    after = origin + (frames - destination) * ((length - origin) / rest)
    warped = ops.where(frames < destination, before, after)
    return ops.where(ops.logical_and(movable, frames < length), warped, frames)


def resample(inputs: Tensor, positions: Tensor) -> Tensor:
    """Reads sequences at fractional positions by linear interpolation.

    Args:
      inputs: Tensor of shape `(batch, time, ...)`. Frames beyond the last one
        count as zero.
      positions: Float32 tensor of shape `(batch, time)`. Frames to read, in
        [0, time).

    Returns:
      A tensor of the shape and dtype of `inputs`.
    """
    shape = ops.shape(inputs)
    batch, time = shape[0], shape[1]
    left = ops.floor(positions)
    fraction = positions - left
    left = ops.cast(left, "int32")
    # The last frame has no right neighbour.
    right_weight = ops.where(left < time - 1, fraction, 0)
    right = ops.minimum(left + 1, time - 1)
    # One gather reads the frames of all examples. A gather for each example
    # (`take_along_axis`) needs one index per cell and is four times slower.
    # With the leading axis of size 1, TensorFlow's gradient is a dense tensor.
    frames = ops.reshape(inputs, (1, batch * time) + shape[2:])
    first = ops.arange(batch)[:, None] * time

    def weighted(index: Tensor, weight: Tensor) -> Tensor:
        values = ops.reshape(
            ops.take(frames, ops.cast(first, "int32") + index, axis=1), shape
        )
        weight = ops.reshape(weight, (batch, time) + (1,) * len(shape[2:]))
        return values * ops.cast(weight, values.dtype)

    return weighted(left, 1 - fraction) + weighted(right, right_weight)


def spans(
    size_draws: Tensor,
    start_draws: Tensor,
    length: Tensor,
    max_size: int,
    max_ratio: float,
    num_positions: Any,
) -> Tensor:
    """Marks random spans of consecutive positions.

    With draws u and v, `size = ⌊u · max_size⌋`, limited to
    `max(⌊max_ratio · length⌋, 1)`, and `start = ⌊v · (length − size + 1)⌋`.

    Args:
      size_draws: Float tensor of shape `(batch, count)`. Uniform draws u in
        [0, 1), for `count` spans per example.
      start_draws: Float tensor of shape `(batch, count)`. Uniform draws v in
        [0, 1).
      length: Integer tensor of shape `(batch,)`. Spans lie in [0, length).
      max_size: Integer, not negative. Sizes are below it.
      max_ratio: Float in [0, 1]. Largest size, as a share of the length.
      num_positions: Integer or integer tensor. Number of positions in each
        example.

    Returns:
      A boolean tensor of shape `(batch, num_positions)`, True inside a span.
    """
    size_draws = ops.cast(size_draws, "float32")
    start_draws = ops.cast(start_draws, "float32")
    length = ops.cast(length, "float32")[:, None]
    cap = clip(ops.floor(max_ratio * length), low=1)
    # The limit `length` matters for examples without a valid frame.
    size = ops.minimum(
        ops.floor(size_draws * max_size), ops.minimum(cap, length)
    )
    start = ops.floor(start_draws * (length - size + 1))[:, :, None]
    positions = ops.cast(ops.arange(num_positions), "float32")
    inside = ops.logical_and(
        positions >= start, positions < start + size[:, :, None]
    )
    return ops.any(inside, axis=1)


@keras.saving.register_keras_serializable("leaf_audio")
class SpecAugment(KnownArguments, keras.layers.Layer):
    """Warps spectrograms in time and masks frames and bins, in training only.

    SpecAugment (Park et al., 2019) makes three random changes, in this order:

    1. A time warp moves one frame, the anchor, by a few frames. The frames
       before and after it are stretched or compressed to fit.
    2. `time_mask_count` spans of consecutive frames are set to 0.
    3. `freq_mask_count` spans of consecutive bins (filters) are set to 0.

    Every example of every batch gets its own random numbers. All channels of an
    example get the same warp and masks. With a Keras mask, the warp and the
    time masks keep to the valid frames, which must come first. In inference the
    layer returns its inputs.

    The distributions are those of lingvo's SpectrumAugmenter, which the
    original LEAF runs, and so are the defaults. A mask is always smaller than
    its maximum. The limit that a positive `time_mask_max_ratio` sets is at
    least one frame. The layer differs from the original in one way: the
    original sets a constant seed and so repeats the same augmentation in every
    step; this layer draws anew. `LingvoSpecAugment` runs lingvo itself.

    Args:
      freq_mask_max_bins: Integer, not negative. A frequency mask is smaller
        than this number of bins. 0 switches frequency masks off. Defaults to
        10.
      freq_mask_count: Integer, not negative. Number of frequency masks. 0
        switches them off. Defaults to 2.
      time_mask_max_frames: Integer, not negative. A time mask is smaller than
        this number of frames. 0 switches time masks off. Defaults to 10.
      time_mask_count: Integer, not negative. Number of time masks. 0 switches
        them off. Defaults to 2.
      time_mask_max_ratio: Float in [0, 1]. Largest size of a time mask, as a
        share of the example's frames. 0 switches time masks off. Defaults to
        1.0.
      time_warp_max_frames: Integer, not negative. Largest shift of the anchor,
        in frames. 0 switches the warp off. Defaults to 8.
      time_warp_max_ratio: Float in [0, 1]. Largest shift of the anchor, as a
        share of the example's frames. 0 switches the warp off. Defaults to 1.0.
      seed: Integer from 0 to less than 2**32 that makes the sequence of random
        numbers reproducible. None takes a random seed. Defaults to None.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ValueError: If an argument is out of range, or the inputs have the wrong
        rank or dtype.

    Input shape:
      `(batch, time, bins)` or `(batch, time, bins, channels)`, of a
      floating-point dtype. A call also takes `mask`, of shape `(batch, time)`.

    Output shape:
      That of the input.

    Example:

    ```python
    layer = postprocessing.SpecAugment(freq_mask_max_bins=8, seed=1)
    augmented = layer(spectrogram, training=True)
    ```

    Reference: Park et al., "SpecAugment", 2019, arXiv:1904.08779.
    """

    def __init__(
        self,
        freq_mask_max_bins: int = 10,
        freq_mask_count: int = 2,
        time_mask_max_frames: int = 10,
        time_mask_count: int = 2,
        time_mask_max_ratio: float = 1.0,
        time_warp_max_frames: int = 8,
        time_warp_max_ratio: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**check_layer_arguments(kwargs))
        self.freq_mask_max_bins = _check_count(
            "freq_mask_max_bins", freq_mask_max_bins
        )
        self.freq_mask_count = _check_count("freq_mask_count", freq_mask_count)
        self.time_mask_max_frames = _check_count(
            "time_mask_max_frames", time_mask_max_frames
        )
        self.time_mask_count = _check_count("time_mask_count", time_mask_count)
        self.time_mask_max_ratio = check_share(
            "time_mask_max_ratio", time_mask_max_ratio
        )
        self.time_warp_max_frames = _check_count(
            "time_warp_max_frames", time_warp_max_frames
        )
        self.time_warp_max_ratio = check_share(
            "time_warp_max_ratio", time_warp_max_ratio
        )
        self.seed = None if seed is None else check_seed("seed", seed)
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    @property
    def _masks_bins(self) -> bool:
        return bool(self.freq_mask_max_bins and self.freq_mask_count)

    @property
    def _masks_frames(self) -> bool:
        return bool(
            self.time_mask_max_frames
            and self.time_mask_count
            and self.time_mask_max_ratio
        )

    @property
    def _warps(self) -> bool:
        return bool(self.time_warp_max_frames and self.time_warp_max_ratio)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) not in (3, 4):
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape (batch, time, "
                "bins) or (batch, time, bins, channels). Received: input shape "
                f"{tuple(input_shape)}."
            )

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor = None
    ) -> Tensor:
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                f"{type(self).__name__} takes inputs of a floating-point "
                f"dtype. Received: inputs.dtype={dtype}."
            )
        if not training:
            return inputs
        if not (self._masks_bins or self._masks_frames or self._warps):
            return inputs
        shape = ops.shape(inputs)
        if mask is None:
            lengths = ops.ones((shape[0],), dtype="int32") * shape[1]
        else:
            lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
        return self._augment(inputs, lengths)

    def _augment(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Augments examples of which the first `lengths` frames are valid."""
        if self._warps:
            inputs = self._warp_time(inputs, lengths)
        if self._masks_frames:
            inputs = self._mask_frames(inputs, lengths)
        if self._masks_bins:
            inputs = self._mask_bins(inputs)
        return inputs

    def _warp_time(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        batch, time = ops.shape(inputs)[:2]
        draws = self._draw((2, batch))
        origin, destination = warp_anchor(
            draws[0],
            draws[1],
            lengths,
            self.time_warp_max_frames,
            self.time_warp_max_ratio,
        )
        return resample(
            inputs, time_warp_positions(origin, destination, lengths, time)
        )

    def _mask_frames(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        batch, time = ops.shape(inputs)[:2]
        draws = self._draw((2, batch, self.time_mask_count))
        masked = spans(
            draws[0],
            draws[1],
            lengths,
            self.time_mask_max_frames,
            self.time_mask_max_ratio,
            time,
        )
        return _zero_where(masked[:, :, None], inputs)

    def _mask_bins(self, inputs: Tensor) -> Tensor:
        batch, _, bins = ops.shape(inputs)[:3]
        draws = self._draw((2, batch, self.freq_mask_count))
        masked = spans(
            draws[0],
            draws[1],
            ops.ones((batch,), dtype="int32") * bins,
            self.freq_mask_max_bins,
            1.0,
            bins,
        )
        return _zero_where(masked[:, None, :], inputs)

    def _draw(self, shape: Shape) -> Tensor:
        # float16 has too few values in [0, 1) for a uniform draw.
        return keras.random.uniform(
            shape, dtype="float32", seed=self.seed_generator
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "freq_mask_max_bins": self.freq_mask_max_bins,
            "freq_mask_count": self.freq_mask_count,
            "time_mask_max_frames": self.time_mask_max_frames,
            "time_mask_count": self.time_mask_count,
            "time_mask_max_ratio": self.time_mask_max_ratio,
            "time_warp_max_frames": self.time_warp_max_frames,
            "time_warp_max_ratio": self.time_warp_max_ratio,
            "seed": self.seed,
        }


def _zero_where(masked: Tensor, inputs: Tensor) -> Tensor:
    if len(inputs.shape) == 4:
        masked = masked[..., None]
    return ops.where(masked, ops.zeros_like(inputs), inputs)


def _check_count(name: str, value: Any) -> int:
    return check_count(name, value, at_most=MAX_SIZE)
