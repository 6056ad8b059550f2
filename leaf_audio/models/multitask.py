"""MultitaskClassifier: one frontend, and for each task an encoder of its own.

Where tasks share the encoder too, the model is an `AudioClassifier` with the
labels of all tasks: a part of its dense layer is the head of each of them.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from leaf_audio.common.arguments import KnownArguments
from leaf_audio.common.keras_checks import check_layer, check_layer_arguments
from leaf_audio.common.serialization import deserialize, serialize
from leaf_audio.models.chain import Shape, Tensor
from leaf_audio.models.classifier import AudioClassifier


@keras.saving.register_keras_serializable("leaf_audio")
class MultitaskClassifier(KnownArguments, keras.Model):
    """Classifies waveforms for several tasks, which share the frontend only.

    Waveform → frontend → features → for each task: normalization, encoder,
    pooling and dense layer → the logits of all tasks, one after the other.
    Every encoder computes every clip, so that shapes do not depend on the
    batch. The statistics of batch normalization are therefore those of the
    clips of all tasks.

    Args:
      frontend: Keras layer or model from waveforms to features, such as
        `frontend.Leaf()`.
      branches: Sequence of `AudioClassifier`, one for each task, all with
        `frontend=None`.
      **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
      ValueError: If an argument is of another kind.

    Input shape:
      That of the frontend.

    Output shape:
      `(batch, num_outputs)`.

    Attributes:
      num_outputs: Number of classes of all tasks together.

    Example:

    ```python
    model = models.MultitaskClassifier(
        frontend.Leaf(),
        [
            models.AudioClassifier(35, encoder=models.ConvNet([64, 128])),
            models.AudioClassifier(10, encoder=models.ConvNet([64, 128])),
        ],
    )
    logits = model(waveforms)
    ```
    """

    def __init__(
        self,
        frontend: layers.Layer,
        branches: Sequence[AudioClassifier],
        **kwargs: Any,
    ):
        # As in AudioClassifier, the frontend gets the waveform as it is.
        super().__init__(autocast=False, **check_layer_arguments(kwargs))
        self.frontend = check_layer("frontend", frontend)
        is_right = (
            isinstance(branches, (list, tuple))
            and len(branches) > 0
            and all(isinstance(one, AudioClassifier) for one in branches)
            and all(one.frontend is None for one in branches)
        )
        if not is_right:
            raise ValueError(
                "`branches` must be a list of models.AudioClassifier without a "
                f"frontend. Received: branches={branches!r}."
            )
        self.branches = list(branches)

    @classmethod
    def of_classifiers(
        cls, classifiers: Sequence[AudioClassifier]
    ) -> "MultitaskClassifier":
        """Joins classifiers that are not built yet, one for each task.

        Args:
          classifiers: Sequence of `AudioClassifier`. The frontend of the first
            is used by all, and those of the others not at all.

        Returns:
          A new model with their encoders.
        """
        branches = [
            AudioClassifier(
                one.num_outputs,
                encoder=one.encoder,
                input_norm=one.input_norm,
                pooling=one.pooling,
                dropout=one.dropout,
                dtype=one.dtype_policy,
                trainable=one.trainable,
            )
            for one in classifiers
        ]
        dtype = classifiers[0].dtype_policy
        return cls(classifiers[0].frontend, branches, dtype=dtype)

    @property
    def num_outputs(self) -> int:
        """The number of classes of all tasks together."""
        return sum(one.num_outputs for one in self.branches)

    def build(self, input_shape: Shape) -> None:
        inputs = keras.KerasTensor(input_shape, dtype=self.variable_dtype)
        if not self.frontend.built:
            self.frontend.build(input_shape)
        features = self.frontend(inputs)
        for one in self.branches:
            if not one.built:
                one.build(features.shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        features = self.frontend(inputs, training=training)
        logits = [one(features, training=training) for one in self.branches]
        return ops.concatenate(logits, axis=-1)

    def of_task(self, task: int) -> AudioClassifier:
        """Makes a classifier with the frontend and one of the encoders.

        Args:
          task: The index of the branch.

        Returns:
          A new model. It shares no weights with this one.
        """
        shape = self.get_build_config()["input_shape"]
        return self.branches[task].with_frontend(self.frontend, shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.num_outputs)

    def compute_output_spec(
        self, inputs: Any, training: Any = None
    ) -> keras.KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(
            shape, dtype=self.branches[0].head.compute_dtype
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "frontend": serialize(self.frontend),
            "branches": [serialize(one) for one in self.branches],
        }

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> "MultitaskClassifier":
        """Creates a model from the config `get_config` has returned."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            objects = {
                "frontend": deserialize(config["frontend"]),
                "branches": [deserialize(one) for one in config["branches"]],
            }
        return cls(**{**config, **objects})
