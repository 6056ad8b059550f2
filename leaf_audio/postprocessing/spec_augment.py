"""SpecAugment: random time warps, and spans of frames and bins set to zero.

Axes are (batch, time, bins). Times are counted in frames, positions in the
input may be fractional. A length is the number of valid frames of an example,
which come first; what follows is padding and is left alone. Random numbers
enter the functions as uniform draws in [0, 1), so that the functions
themselves are deterministic.
"""

import numbers
from typing import Any

import keras
from keras import ops

Tensor = Any
Shape = tuple[int | None, ...]


def warp_anchor(
    origin_draw: Tensor,
    shift_draw: Tensor,
    length: Tensor,
    max_frames: int,
    max_ratio: float,
) -> tuple[Tensor, Tensor]:
    """Chooses the frame that a time warp moves, and where it goes.

    `origin = 1 + ⌊u·(length − 2)⌋`; the shift is a uniform integer in
    [−max_frames, max_frames], cut to ±⌊max_ratio·length⌋.

    Args:
      origin_draw: uniform draws, `(batch,)`.
      shift_draw: uniform draws, `(batch,)`.
      length: integer, `(batch,)`.
      max_frames: largest shift, in frames.
      max_ratio: largest shift, as a share of the length.

    Returns:
      Origin and destination, each float32 of shape `(batch,)`. The
      destination may lie outside the example: time_warp_positions clips it.
    """
    origin_draw, shift_draw, length = (
        ops.cast(value, "float32")
        for value in (origin_draw, shift_draw, length)
    )
    origin = 1 + ops.floor(origin_draw * ops.maximum(length - 2, 0))
    shift = ops.floor(shift_draw * (2 * max_frames + 1)) - max_frames
    bound = ops.floor(max_ratio * length)
    return origin, origin + ops.clip(shift, -bound, bound)


def time_warp_positions(
    origin: Tensor, destination: Tensor, length: Tensor, num_frames: Any
) -> Tensor:
    """Computes which input position each output frame of a warp shows.

    The map is piecewise linear: it takes 0 to 0, `destination` to `origin`
    and `length` to `length`, and leaves the frames after that in place. The
    destination is clipped to [1, length − 1].

    Args:
      origin: frame to move, `(batch,)`.
      destination: frame it moves to, `(batch,)`.
      length: number of valid frames, `(batch,)`. An example of fewer than two
        frames has nothing to move and keeps its place.
      num_frames: number of output frames.

    Returns:
      Input positions, float32 of shape `(batch, num_frames)`.
    """
    origin, destination, length = (
        ops.cast(value, "float32")[:, None]
        for value in (origin, destination, length)
    )
    movable = length >= 2
    destination = ops.clip(destination, 1, ops.maximum(length - 1, 1))
    rest = ops.where(movable, length - destination, 1)
    frames = ops.cast(ops.arange(num_frames), "float32")[None]
    before = frames * (origin / destination)
    after = origin + (frames - destination) * ((length - origin) / rest)
    warped = ops.where(frames < destination, before, after)
    return ops.where(ops.logical_and(movable, frames < length), warped, frames)


def time_warp_matrix(
    origin: Tensor, destination: Tensor, length: Tensor, num_frames: int
) -> Tensor:
    """Computes time warps as matrices of linear interpolation.

    SpecAugment itself resamples by `resample`, which gives the same result in
    O(time) instead of O(time²).

    Args:
      origin: frame to move, `(batch,)`.
      destination: frame it moves to, `(batch,)`.
      length: number of valid frames, `(batch,)`.
      num_frames: size of the matrices.

    Returns:
      Weights of shape `(batch, output frame, input frame)`.
    """
    positions = time_warp_positions(origin, destination, length, num_frames)
    frames = ops.cast(ops.arange(num_frames), "float32")
    return ops.relu(1 - ops.abs(positions[:, :, None] - frames))


def resample(inputs: Tensor, positions: Tensor) -> Tensor:
    """Reads a sequence at fractional positions by linear interpolation.

    Args:
      inputs: `(batch, time, ...)`; frames outside count as zero.
      positions: float32 in [0, time), `(batch, time)`.

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
    # One gather over the frames of all examples: a gather per example
    # (`take_along_axis`) would need one index per cell and is four times
    # slower. The leading axis keeps TensorFlow's gradient dense.
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

    `size = ⌊u·max_size⌋`, then at most `max(⌊max_ratio·length⌋, 1)`;
    `start = ⌊v·(length − size + 1)⌋`.

    Args:
      size_draws: uniform draws u, `(batch, count)`.
      start_draws: uniform draws v, `(batch, count)`.
      length: integer, `(batch,)`; spans lie within `[0, length)`.
      max_size: sizes lie below this.
      max_ratio: bound on the size, as a share of the length.
      num_positions: number of positions, for all examples alike.

    Returns:
      True inside a span, boolean of shape `(batch, num_positions)`.
    """
    size_draws = ops.cast(size_draws, "float32")
    start_draws = ops.cast(start_draws, "float32")
    length = ops.cast(length, "float32")[:, None]
    cap = ops.maximum(ops.floor(max_ratio * length), 1)
    # The second bound matters for an example without a valid frame.
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
class SpecAugment(keras.layers.Layer):
    """Warps spectrograms in time and masks frames and bins, in training only.

    Each step draws anew for each example, in this order: a time warp about
    one anchor frame, `time_mask_count` spans of frames, `freq_mask_count`
    spans of bins. Masked cells become 0. Channels, where there are any, get
    the same warp and masks. Given a Keras mask of shape `(batch, time)` whose
    valid frames come first, warps and spans keep to the valid frames.

    The numbers follow lingvo's SpectrumAugmenter as the original sets it:
    a mask covers at most one bin or frame fewer than its maximum, and at least
    one frame is allowed whatever `time_mask_max_ratio`. The original, given a
    constant seed, repeats one draw for ever; this layer does not.

    Args:
      freq_mask_max_bins: bound on a frequency mask's size, in bins (exclusive);
        0 switches frequency masks off.
      freq_mask_count: number of frequency masks; 0 switches them off.
      time_mask_max_frames: bound on a time mask's size, in frames (exclusive);
        0 switches time masks off.
      time_mask_count: number of time masks; 0 switches them off.
      time_mask_max_ratio: bound on a time mask's size as a share of the
        example's length, in [0, 1]; 0 switches time masks off.
      time_warp_max_frames: largest shift of the anchor, in frames; 0 switches
        the warp off.
      time_warp_max_ratio: largest shift of the anchor as a share of the
        example's length, in [0, 1]; 0 switches the warp off.
      seed: integer that makes the sequence of draws reproducible; None for a
        random one.
      **kwargs: of keras.layers.Layer, such as `name`, `dtype`.

    Raises:
      ValueError: an argument is out of range, or inputs have the wrong rank or
        dtype.

    Input shape:
      `(batch, time, bins)` or `(batch, time, bins, channels)`.

    Output shape:
      The same.

    Example:
    ```python
    layer = postprocessing.SpecAugment(freq_mask_max_bins=8, seed=1)
    augmented = layer(spectrogram, training=True)
    ```

    Reference: SpecAugment, arXiv:1904.08779.
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
        super().__init__(**kwargs)
        self.freq_mask_max_bins = _check_count(
            "freq_mask_max_bins", freq_mask_max_bins
        )
        self.freq_mask_count = _check_count("freq_mask_count", freq_mask_count)
        self.time_mask_max_frames = _check_count(
            "time_mask_max_frames", time_mask_max_frames
        )
        self.time_mask_count = _check_count("time_mask_count", time_mask_count)
        self.time_mask_max_ratio = _check_share(
            "time_mask_max_ratio", time_mask_max_ratio
        )
        self.time_warp_max_frames = _check_count(
            "time_warp_max_frames", time_warp_max_frames
        )
        self.time_warp_max_ratio = _check_share(
            "time_warp_max_ratio", time_warp_max_ratio
        )
        self.seed = None if seed is None else _check_count("seed", seed)
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
        """Augments a batch whose examples have `lengths` valid frames."""
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
        # float16 has too few values in [0, 1) for a fair draw.
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
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or value < 0:
        raise ValueError(
            f"`{name}` must be a non-negative integer. "
            f"Received: {name}={value!r}."
        )
    return int(value)


def _check_share(name: str, value: Any) -> float:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real or not 0 <= value <= 1:
        raise ValueError(
            f"`{name}` must be a number in [0, 1]. Received: {name}={value!r}."
        )
    return float(value)
