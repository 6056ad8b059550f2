"""Compares a trained encoder with untrained ones, by a probe of embeddings.

python benchmarks/probe.py --recordings=/path/to/esc10

A probe is a small classifier of embeddings: a logistic regression, or the five
nearest neighbours. The folder must have a test split, which is scored. For a
share of the labels, the accuracy is the mean over several draws of them. An
untrained encoder has the same architecture, with random weights. A recording of
several windows is judged by its mean embedding.
"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import leaf_audio
from leaf_audio.serving import few_examples


def untrained(classifier, seed: int):
    """Returns the classifier with new weights."""
    keras.utils.set_random_seed(seed)
    model = type(classifier.model).from_config(classifier.model.get_config())
    model.build_from_config(classifier.model.get_build_config())
    return dataclasses.replace(classifier, model=model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", required=True)
    parser.add_argument("--model", default="speech_commands")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 1])
    given = parser.parse_args()
    trained = leaf_audio.load(given.model)
    classifiers = {given.model: trained} | {
        f"untrained, seed {seed}": untrained(trained, seed)
        for seed in range(given.seeds)
    }
    for name, classifier in classifiers.items():
        read = few_examples.read_labelled(classifier, given.recordings)
        labelled = dataclasses.replace(read, windows=list(read.means[:, None]))
        for fraction in given.fractions:
            draws = range(given.seeds if fraction < 1 else 1)
            for method in few_examples.METHODS:
                found = [
                    few_examples.score(labelled, method, fraction, seed)
                    for seed in draws
                ]
                mean = np.mean([one.accuracy[0] for one in found])
                share = f"{100 * fraction:g} % of labels"
                print(f"{name}, {share}, {method}: {mean:.3f}", flush=True)


if __name__ == "__main__":
    main()
