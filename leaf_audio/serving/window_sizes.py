"""The length of windows and the distance between them, in samples."""

from typing import Any

from leaf_audio.common.checks import (
    check_positive,
    check_positive_int,
    check_unless_none,
)


def check_samples(name: str, value: Any, at_most: int | None) -> None:
    """Raises a ValueError unless a size of windows is a number of samples.

    Args:
        name: The name of the argument.
        value: The value of the argument.
        at_most: int, in samples. The largest allowed value. None for no limit.
    """
    try:
        check_positive_int(name, value, at_most)
    except ValueError as error:
        upper = "on" if at_most is None else f"to {at_most}"
        raise ValueError(
            f"`{name}` must be an integer from 1 {upper}, in samples. "
            f"Received: {name}={value!r}."
        ) from error


def default_hop(evaluation_hop: int | None, length: int) -> int:
    """Returns the distance of windows where none is asked for, in samples.

    Args:
        evaluation_hop: int, in samples, or None. That of the evaluation.
        length: int, in samples. The length of a window.
    """
    return min(evaluation_hop or length, length)


def in_samples(
    sample_rate: int,
    clip: int | None,
    window: float | None,
    hop: float | None,
) -> tuple[int | None, int | None]:
    """Converts the length and the hop of windows from seconds to samples.

    Args:
        sample_rate: int, in Hz.
        clip: int, in samples. The length of a clip of the model; None if it
            takes any.
        window: float, in seconds, or None. The length of a window.
        hop: float, in seconds, or None. The distance between the beginnings of
            windows.

    Returns:
        The two in samples, each None where it was.

    Raises:
        ValueError: If one is shorter than a sample, `window` is longer than
            `clip`, `hop` is longer than a window, or `hop` is given where there
            is neither `window` nor `clip`.
    """
    check_unless_none(check_positive, window=window, hop=hop)
    length = _samples("window", window, sample_rate)
    step = _samples("hop", hop, sample_rate)
    if length is not None and clip is not None and length > clip:
        raise ValueError(
            "`window` must be at most the length of a clip of the model, "
            f"{clip / sample_rate:g} s, so that no part is left out. "
            f"Received: window={window}."
        )
    longest = clip if length is None else length
    if step is not None and longest is None:
        raise ValueError(
            "`window` must be given with `hop`, since the model takes clips of "
            f"any length. Received: window=None, hop={hop}."
        )
    if step is not None and step > longest:
        raise ValueError(
            "`hop` must be at most the length of a window, "
            f"{longest / sample_rate:g} s, so that no part is left out. "
            f"Received: hop={hop}."
        )
    return length, step


def _samples(name: str, seconds: float | None, sample_rate: int) -> int | None:
    if seconds is None:
        return None
    samples = round(seconds * sample_rate)
    if samples < 1:
        raise ValueError(
            f"`{name}` must be at least a sample, {1 / sample_rate:g} s. "
            f"Received: {name}={seconds}."
        )
    return samples
