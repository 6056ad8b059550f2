"""Every argument of every public class refuses what it cannot take.

The walk reads the signatures, so that a new argument is tried by itself.
`arguments` says which values are legal. An illegal value must raise an error of
this package that names the argument and shows the value.
"""

import keras
import numpy as np
import pytest
from arguments import (
    COSTLY,
    REQUIRED,
    VALUES,
    arguments,
    is_legal,
    targets,
)

TARGETS = targets()
pytestmark = pytest.mark.any_backend


def complaint(name, argument, value):
    """Returns what is wrong with the answer to a value, or None.

    An error is right if it is a ValueError that names argument and value.
    """
    settings = {**REQUIRED.get(name, {}), argument: value}
    try:
        TARGETS[name](**settings)
    except ValueError as error:
        message = str(error)
        if f"{argument}={value!r}" in message.partition("Received")[2]:
            return None
        return f"raises {message!r}"
    except Exception as error:
        return f"raises {error!r}"
    return "is accepted"


@pytest.mark.parametrize("name", TARGETS)
def test_a_wrong_argument_is_named_with_its_value(name):
    wrong = {}
    for argument in arguments(name, TARGETS[name]):
        for label, value in VALUES.items():
            legal = is_legal(name, argument, label)
            if legal and name in COSTLY:
                continue
            found = complaint(name, argument, value)
            if found and not (legal and found == "is accepted"):
                wrong[f"{argument}={value!r}"] = found
    assert not wrong, "\n".join(f"{k} {v}" for k, v in wrong.items())
