"""Registers what configs name; the `config.gin` of older runs imports this."""

from leaf_audio.app import configurables  # noqa: F401
