"""The compiled part of a stream, and what can be streamed.

Which parts of a frontend can be streamed is known for those of this package and
for some of Keras'. Others are refused: a function may take a maximum over all
frames.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from leaf_audio import postprocessing

Tensor = Any

# Number of new frames in an excerpt: few for audio that is being recorded, many
# for long chunks.
_FEW_FRAMES, _MANY_FRAMES = 16, 128

# Layers that treat each frame by itself, in inference.
_FRAME_WISE_LAYERS = (
    postprocessing.Log1p,
    postprocessing.TemporalBatchNormalization,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
)


class StreamStep(keras.Model):
    """Computes some frames of an excerpt, and compresses them.

    It is a model so that Keras compiles it, on every backend.

    Args:
      frontend: A built frontend.
      frames: Number of frames to return.

    Call arguments:
      inputs: A list of the excerpt `(batch, time)`, the number of its first
        frame that is wanted, an int32 scalar, and for PCEN its state before
        that frame, `(batch, n_filters)`.

    Returns:
      A list of the features `(batch, frames, n_filters)`, and for PCEN its
      state after each frame, of the same shape.
    """

    def __init__(self, frontend: Any, frames: int):
        super().__init__(dtype=frontend.dtype_policy, autocast=False)
        self._frontend = frontend
        self._frames = frames
        # On TensorFlow, XLA takes longer on a CPU.
        on_jax = keras.backend.backend() == "jax"
        self.compile(optimizer=None, jit_compile=on_jax)

    def call(self, inputs: list[Tensor]) -> list[Tensor]:
        audio, first, *smoother = inputs
        frontend = self._frontend
        energies = frontend._compute_energies(audio[..., None], None)
        batch, _, filters = ops.shape(energies)
        zero = ops.zeros_like(first)
        energies = ops.slice(
            energies,
            ops.stack([zero, first, zero]),
            (batch, self._frames, filters),
        )
        if smoother:
            energies = frontend._raise_to_floor(energies)
            outputs = frontend.compression.outputs_and_states(
                energies, *smoother
            )
        else:
            outputs = [frontend._compress(energies, None, False)]
        features, *states = outputs
        return [ops.cast(features, frontend.compute_dtype), *states]


class StreamSteps:
    """Steps that the streams of a frontend share: each is compiled once.

    Args:
      frontend: The frontend.
    """

    def __init__(self, frontend: Any):
        self._frontend = frontend
        self._plan: Any = None
        self._steps: dict[int, StreamStep] = {}

    def follow_plan(self) -> None:
        """Forgets compiled steps that follow an earlier plan."""
        plan = getattr(self._frontend, "plan", None)
        if plan is not self._plan:
            self._plan, self._steps = plan, {}

    def for_frames(self, missing: int) -> tuple[StreamStep, int]:
        """Returns a step for a part of the missing frames.

        Args:
          missing: Number of frames to compute.

        Returns:
          The step, and the number of its frames, which may be greater.
        """
        is_many = missing >= _MANY_FRAMES // 2
        frames = _MANY_FRAMES if is_many else _FEW_FRAMES
        if frames not in self._steps:
            self._steps[frames] = StreamStep(self._frontend, frames)
        return self._steps[frames], frames


def initial_smoother(frontend: Any, batch_size: int) -> np.ndarray | None:
    """Returns PCEN's state before the first frame, or None without PCEN."""
    pcen = frontend.compression
    if not isinstance(pcen, postprocessing.PCENLayer):
        return None
    none_yet = ops.zeros((batch_size, 0, frontend.n_filters))
    return ops.convert_to_numpy(pcen(none_yet, return_state=True)[1])


def check_can_stream(frontend: Any) -> None:
    """Raises a ValueError if what follows the energies cannot be streamed."""
    name = frontend.name
    if frontend.multichannel:
        raise ValueError(
            f"{name} cannot stream with multichannel=True: put the channels on "
            "the batch axis of a frontend without it. Received: "
            "multichannel=True."
        )
    augment = frontend._spec_augment
    # Others might do something in inference, too.
    if not isinstance(augment, (postprocessing.SpecAugment, type(None))):
        raise ValueError(
            f"{name} cannot stream: `spec_augment` must be a SpecAugment, "
            f"which does nothing in inference. Received: "
            f"spec_augment={augment!r}."
        )
    compression = frontend.compression
    if isinstance(compression, postprocessing.PCENLayer):
        return
    reason = _why_not_frame_wise(compression)
    if reason:
        raise ValueError(
            f"{name} cannot stream: its compression {reason} Received: "
            f"compression_fn={compression!r}."
        )


def is_frame_wise(layer: Any) -> bool:
    """Returns whether a layer or function is known to treat frames alone."""
    return not _why_not_frame_wise(layer)


def _why_not_frame_wise(layer: Any) -> str:
    """Returns why a compression cannot be streamed, or an empty text."""
    if layer is None or isinstance(layer, _FRAME_WISE_LAYERS):
        return ""
    function = getattr(layer, "func", layer)
    settings = getattr(layer, "keywords", {})
    if function is postprocessing.log_compression:
        return ""
    if function is postprocessing.db_compression:
        if settings.get("top_db", 80.0) is None and (
            settings.get("ref") != "max"
        ):
            return ""
        return (
            "needs the maximum over the whole signal. Give a partial of "
            "db_compression with top_db=None and a number as ref."
        )
    if isinstance(layer, postprocessing.LogTBN):
        if layer.median == "keep":
            return ""
        return (
            "needs the median over the whole signal. Give "
            "LogTBN(median='keep'), or 'pcen' or 'log'."
        )
    normalizations = (
        keras.layers.LayerNormalization,
        keras.layers.BatchNormalization,
    )
    if isinstance(layer, normalizations) and _is_last(layer.axis):
        return ""
    if isinstance(layer, keras.layers.Activation):
        return _why_not_frame_wise(layer.activation)
    name = getattr(layer, "__name__", "")
    if name and getattr(keras.activations, name, None) is layer:
        return ""
    return (
        "may need the whole signal. It must be PCEN, a logarithm or another "
        "compression that treats each frame by itself; or compression_fn=None, "
        "and the compression is applied to what the stream returns."
    )


def _is_last(axis: Any) -> bool:
    return axis in (-1, 2, [-1], [2], (-1,), (2,))
