"""Callbacks for keras.Model.fit."""

from typing import Any

import keras

from leaf_audio.frontend import Leaf


class Replan(keras.callbacks.Callback):
    """Plans a model's frontends anew while their filters are learned.

    Before training and after each epoch, a frontend whose filters have used up
    half of its plan's margin gets a new one, and the model is compiled again at
    its next step. Without this, filters that leave their plan are computed
    exactly, and slowly, until the model is loaded anew. Give it ahead of
    callbacks that save the model.

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


def built_leafs(layer: keras.layers.Layer) -> list[Leaf]:
    """Finds the Leaf frontends that a model is made of, each once."""
    # `layers`, which is public, leaves out what wrappers and layers hold.
    inner = layer._flatten_layers()
    return [one for one in inner if isinstance(one, Leaf) and one.built]
