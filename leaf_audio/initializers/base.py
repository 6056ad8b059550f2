"""Base class of the initializers that depend on a frontend's settings."""

import keras

from leaf_audio.common.arguments import KnownArguments

# LEAF's own settings. An initializer uses them for settings left None if the
# layer that it belongs to is not part of a frontend.
DEFAULT_SAMPLE_RATE = 16000
DEFAULT_WINDOW_LEN_MS = 25.0


class FrontendInitializer(KnownArguments, keras.initializers.Initializer):
    """Base of the initializers that can take settings from a frontend.

    A subclass may have the arguments `sample_rate` and `window_len`. Where they
    are None, the frontend that is given the initializer sets them.
    """

    def following(
        self, sample_rate: float, window_len: float
    ) -> "FrontendInitializer":
        """Returns a copy in which a frontend sets what was None.

        Args:
          sample_rate: Sample rate of the frontend, in Hz.
          window_len: Length of the frontend's window, in milliseconds.

        Returns:
          A new initializer. Settings that were not None are kept.

        Raises:
          ValueError: The settings of the frontend do not fit the other
            settings of the initializer.
        """
        config = self.get_config()
        for name, value in (
            ("sample_rate", sample_rate),
            ("window_len", window_len),
        ):
            if name in config and config[name] is None:
                config[name] = value
        return type(self).from_config(config)
