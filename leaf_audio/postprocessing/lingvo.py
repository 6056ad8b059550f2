"""SpecAugment computed by lingvo, whose code the original LEAF runs.

This module needs TensorFlow and lingvo (`pip install -e '.[lingvo]'`). Both are
imported when a layer is made, not before. Units and shapes are those of
`spec_augment`.
"""

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from leaf_audio.postprocessing.spec_augment import SpecAugment

Tensor = Any

_OP_LIBRARY = "lingvo.core.ops.gen_x_ops"


@keras.saving.register_keras_serializable("leaf_audio")
class LingvoSpecAugment(SpecAugment):
    """SpecAugment computed by lingvo's SpectrumAugmenter.

    It draws from the same distributions as `SpecAugment`, but gives other
    numbers for the same seed. The original LEAF runs the same code. This layer
    differs from it in three ways:

    - Every step draws new random numbers.
    - The masks of frames and of bins are independent of each other.
    - An example of a single frame passes the warp unchanged; the original
      returns NaN.

    The memory of the warp grows with the square of the number of frames.

    Args:
      freq_mask_max_bins: Integer, in bins. This and the next seven arguments
        mean what they mean in `SpecAugment`. Defaults to 10.
      freq_mask_count: Integer. Defaults to 2.
      time_mask_max_frames: Integer, in frames. Defaults to 10.
      time_mask_count: Integer. Defaults to 2.
      time_mask_max_ratio: Float in [0, 1]. Defaults to 1.0.
      time_warp_max_frames: Integer, in frames. Defaults to 8.
      time_warp_max_ratio: Float in [0, 1]. Defaults to 1.0.
      seed: Integer or None. Defaults to None.
      **kwargs: Other arguments of `keras.layers.Layer`, such as `name` and
        `dtype`.

    Raises:
      ImportError: If lingvo is not installed.
      RuntimeError: If Keras does not run on TensorFlow.
      ValueError: If an argument is out of range, or the inputs have the wrong
        rank or dtype.

    Input shape:
      `(batch, time, bins)` or `(batch, time, bins, channels)`, of a
      floating-point dtype. A call also takes `mask`, of shape `(batch, time)`.

    Output shape:
      That of the input.

    Example:

    ```python
    layer = postprocessing.LingvoSpecAugment(freq_mask_max_bins=8, seed=1)
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
        super().__init__(
            freq_mask_max_bins=freq_mask_max_bins,
            freq_mask_count=freq_mask_count,
            time_mask_max_frames=time_mask_max_frames,
            time_mask_count=time_mask_count,
            time_mask_max_ratio=time_mask_max_ratio,
            time_warp_max_frames=time_warp_max_frames,
            time_warp_max_ratio=time_warp_max_ratio,
            seed=seed,
            **kwargs,
        )
        backend = keras.backend.backend()
        if backend != "tensorflow":
            raise RuntimeError(
                "LingvoSpecAugment needs Keras' TensorFlow backend; "
                "SpecAugment works on every one. "
                f"Received: keras.backend.backend()={backend!r}."
            )
        # Each part has its own augmenter, and so its own seed in each step.
        # From one seed, lingvo draws the same numbers for both kinds of masks.
        self._warp = _augmenter(
            time_warp_max_frames=self.time_warp_max_frames,
            time_warp_max_ratio=self.time_warp_max_ratio,
        )
        self._frame_masks = _augmenter(
            time_mask_max_frames=self.time_mask_max_frames,
            time_mask_count=self.time_mask_count,
            time_mask_max_ratio=self.time_mask_max_ratio,
        )
        self._bin_masks = _augmenter(
            freq_mask_max_bins=self.freq_mask_max_bins,
            freq_mask_count=self.freq_mask_count,
        )

    def _warp_time(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        # For fewer than two frames lingvo divides by zero. With a silent frame
        # appended, such an example counts as two frames and stays in place.
        padding = [(0, 0)] * len(inputs.shape)
        padding[1] = (0, 1)
        padded = ops.pad(inputs, padding)
        warped = self._apply(self._warp, padded, ops.maximum(lengths, 2))
        return warped[:, :-1]

    def _mask_frames(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self._apply(self._frame_masks, inputs, lengths)

    def _mask_bins(self, inputs: Tensor) -> Tensor:
        lengths = ops.zeros((ops.shape(inputs)[0],), dtype="int32")
        return self._apply(self._bin_masks, inputs, lengths)

    def _apply(
        self, augmenter: Callable, inputs: Tensor, lengths: Tensor
    ) -> Tensor:
        is_3d = len(inputs.shape) == 3
        x = ops.cast(inputs[..., None] if is_3d else inputs, "float32")
        frames = ops.arange(ops.shape(x)[1], dtype="int32")
        paddings = ops.cast(frames >= lengths[:, None], "float32")
        # Lingvo adds small numbers to the seed in int32. Seeds below 2³⁰ cannot
        # overflow then.
        seed = keras.random.randint((2,), 0, 2**30, seed=self.seed_generator)
        x = augmenter(inputs=x, paddings=paddings, global_seed=seed)
        return ops.cast(x[..., 0] if is_3d else x, inputs.dtype)


def _augmenter(**settings: Any) -> Callable:
    """Makes a lingvo augmenter that does only what the settings ask for.

    Args:
      **settings: Parameters of lingvo's SpectrumAugmenter. Parts that they do
        not mention are switched off.

    Returns:
      A function of `inputs` `(batch, time, bins, channels)`, `paddings`
      `(batch, time)` and `global_seed` `(2,)`.
    """
    params = _import_augmenter().SpectrumAugmenter.Params()
    params.Set(
        name="spectrum_augmenter",
        freq_mask_count=0,
        time_mask_count=0,
        # With this setting lingvo uses the seed that it is called with.
        use_input_dependent_random_seed=True,
    )
    # Lingvo's public method FProp would make its own seed from the clock.
    return params.Set(**settings).Instantiate()._AugmentationNetwork


def _import_augmenter() -> types.ModuleType:
    """Imports lingvo's augmenter, with or without lingvo's op library.

    The augmenter uses nothing of that library. The library needs a recent glibc
    and does not load on Debian 12 or Ubuntu 22.04.
    """
    name = "lingvo.core.spectrum_augmenter"
    try:
        importlib.import_module("lingvo")
    except ModuleNotFoundError as error:
        raise ImportError(
            "LingvoSpecAugment needs lingvo: pip install -e '.[lingvo]'. "
            "SpecAugment computes the same without it."
        ) from error
    import tensorflow as tf

    try:
        return importlib.import_module(name)
    except (tf.errors.NotFoundError, OSError):
        sys.modules[_OP_LIBRARY] = _UnavailableOps(_OP_LIBRARY)
        try:
            return importlib.import_module(name)
        finally:
            # Lingvo's modules keep their reference to the stand-in. Any other
            # import of the library fails as it would have failed before.
            del sys.modules[_OP_LIBRARY]


class _UnavailableOps(types.ModuleType):
    """Stands in for lingvo's op library; each op raises when called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)

        def op(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(
                f"lingvo's op `{name}` is not available: its op library did "
                "not load on this machine."
            )

        return op
