"""Values that the walks over arguments try, and which kind allows which."""

import math

import keras


class Thing:
    """An object that no argument takes."""

    def __repr__(self):
        return "<thing>"


def function(*args, **kwargs):
    return 1


# Values to try, by name. A kind of argument names those that are legal.
VALUES = {
    "text": "no_such",
    "integer": 5,
    "zero": 0,
    "negative": -1,
    "fraction": 0.5,
    "large": 1e9,
    "large integer": 10**9,
    "infinite": math.inf,
    "nan": math.nan,
    "bool": True,
    "none": None,
    "list": [1, 2],
    "mixed list": [1, "a"],
    "empty list": [],
    "dictionary": {"a": 1},
    "object": Thing(),
    "class": keras.layers.Dense,
    "function": function,
}
POSITIVE = {"integer", "fraction", "large", "large integer"}

KINDS: dict[str, set[str]] = {
    "size": {"integer"},
    "positive integer": {"integer", "large integer"},
    "count": {"integer", "zero"},
    "seed": {"integer", "zero", "large integer"},
    "steps": {"integer", "zero", "large integer"},
    "positive": POSITIVE,
    "not negative": {*POSITIVE, "zero"},
    "finite": {*POSITIVE, "zero", "negative"},
    "bytes": {*POSITIVE, "zero"},
    "high rate": {"large", "large integer"},
    "factor": {"integer", "fraction"},
    "function": {"function", "class"},
    "share": {"zero", "fraction"},
    "rate": {"zero", "fraction"},
    "inner share": {"fraction"},
    "bool": {"bool"},
    "choice": set(),
    "text": {"text"},
    "path": {"text"},
    "sizes": {"list"},
    "pair": {"integer", "list"},
    "integers": {"list"},
    "list": {"empty list"},
    "dictionary": {"dictionary"},
    # Integers stand for names.
    "names": {"list", "mixed list", "empty list"},
    "numbers": {*POSITIVE, "zero", "negative", "list"},
    "initial value": {*POSITIVE, "zero", "list"},
    # Keras calls a function in place of an initializer and the like.
    "keras object": {"function"},
    # The function above fails as soon as it is called.
    "maker": set(),
    # Frontends apply functions. This one fails when the frontend is built.
    "compression": {"function"},
    "callable": {"function"},
    "layer": set(),
    "given": set(),
}
