"""Trains audio classifiers on leaf_audio frontends, configured by gin."""
