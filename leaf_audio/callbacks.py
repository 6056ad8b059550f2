"""Callbacks for keras.Model.fit."""

from typing import Any

import keras

from leaf_audio.planned_frontend import PlannedFrontend


class Replan(keras.callbacks.Callback):
    """Plans a model's frontends anew while their filters are learned.

    Before training and after each epoch, a frontend whose plan has no room left
    for its filters gets a new one, and the model is compiled again at its next
    step. Without this, a Leaf computes filters that leave their plan exactly,
    and slowly, and an EfficientLeaf keeps to the lengths and strides it has,
    until the model is loaded anew. Give it ahead of callbacks that save the
    model.

    Example:

    ```python
    model.fit(data, epochs=10, callbacks=[callbacks.Replan()])
    ```
    """

    def on_train_begin(self, logs: Any = None) -> None:
        self._replan()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._replan()

    def _replan(self) -> None:
        model = self.model
        changed = [leaf.replan(if_needed=True) for leaf in built_leafs(model)]
        if any(changed):
            model.train_function = None
            model.test_function = None
            model.predict_function = None
            model.make_train_function()


def built_leafs(layer: keras.layers.Layer) -> list[PlannedFrontend]:
    """Finds the frontends with plans that a model is made of, each once."""
    # `layers`, which is public, leaves out what wrappers and layers hold.
    inner = layer._flatten_layers()
    return [
        one for one in inner if isinstance(one, PlannedFrontend) and one.built
    ]
