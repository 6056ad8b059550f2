"""SpecAugment by lingvo, whose code the original LEAF runs.

The only module of the package that needs TensorFlow, and lingvo, which
`pip install -e '.[lingvo]'` installs. Both are imported when a layer is
made. Lengths and shapes are as in `augmentation`.
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

    Draws from the same distributions as SpecAugment, but not the same numbers
    under the same seed. It differs from the original, which runs the same
    code, in three ways: each step draws anew, masks of frames and of bins are
    independent, and an example of a single frame comes out of the warp as it
    was and not as NaN. The warp's memory is quadratic in the number of frames.

    Args:
      freq_mask_max_bins: as in SpecAugment.
      freq_mask_count: as in SpecAugment.
      time_mask_max_frames: as in SpecAugment.
      time_mask_count: as in SpecAugment.
      time_mask_max_ratio: as in SpecAugment.
      time_warp_max_frames: as in SpecAugment.
      time_warp_max_ratio: as in SpecAugment.
      seed: as in SpecAugment.
      **kwargs: of keras.layers.Layer, such as `name`, `dtype`.

    Raises:
      ImportError: lingvo is not installed.
      RuntimeError: Keras runs on another backend than TensorFlow.
      ValueError: an argument is out of range, or inputs have the wrong rank or
        dtype.

    Input shape:
      `(batch, time, bins)` or `(batch, time, bins, channels)`.

    Output shape:
      The same.

    Example:
    ```python
    layer = postprocessing.LingvoSpecAugment(freq_mask_max_bins=8, seed=1)
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
        super().__init__(
            freq_mask_max_bins,
            freq_mask_count,
            time_mask_max_frames,
            time_mask_count,
            time_mask_max_ratio,
            time_warp_max_frames,
            time_warp_max_ratio,
            seed,
            **kwargs,
        )
        backend = keras.backend.backend()
        if backend != "tensorflow":
            raise RuntimeError(
                "LingvoSpecAugment needs Keras' TensorFlow backend; "
                "SpecAugment works on every one. "
                f"Received: keras.backend.backend()={backend!r}."
            )
        # One augmenter a part, for one seed must not serve two: lingvo would
        # draw the same numbers for both kinds of masks.
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
        # Lingvo divides by zero for fewer than two frames. Taken for two, of
        # which the second is silent, an example stays in place.
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
        # Below 2³⁰: lingvo adds small numbers to the seed, in int32.
        seed = keras.random.randint((2,), 0, 2**30, seed=self.seed_generator)
        x = augmenter(inputs=x, paddings=paddings, global_seed=seed)
        return ops.cast(x[..., 0] if is_3d else x, inputs.dtype)


def _augmenter(**settings: Any) -> Callable:
    """Makes an augmenter of the settings given, all its other parts off.

    Args:
      **settings: of lingvo's SpectrumAugmenter.

    Returns:
      A function of `inputs` `(batch, time, bins, channels)`, `paddings`
      `(batch, time)` and `global_seed` `(2,)`.
    """
    params = _import_augmenter().SpectrumAugmenter.Params()
    params.Set(
        name="spectrum_augmenter",
        freq_mask_count=0,
        time_mask_count=0,
        # What makes lingvo draw from the seed that it is called with.
        use_input_dependent_random_seed=True,
    )
    # The public FProp would derive a seed of its own from the clock.
    return params.Set(**settings).Instantiate()._AugmentationNetwork


def _import_augmenter() -> types.ModuleType:
    """Imports lingvo's augmenter, where need be without lingvo's op library.

    The library, of which the augmenter uses nothing, is built against a recent
    glibc: on Debian 12 or Ubuntu 22.04 it does not load.
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
            # Lingvo's modules keep what they need of it; other imports of the
            # library should fail as they would without this.
            del sys.modules[_OP_LIBRARY]


class _UnavailableOps(types.ModuleType):
    """Stands in for lingvo's op library: each op raises when it is called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)

        def op(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(
                f"lingvo's op `{name}` is not available: its op library did "
                "not load on this machine."
            )

        return op
