"""Lists names in messages."""

from collections.abc import Iterable


def listed(names: Iterable[str], most: int, separator: str = ", ") -> str:
    """Returns the first of some names, and how many more there are.

    Args:
      names: The names, as they are to be shown.
      most: The number of names to show.
      separator: What stands between two names.

    Returns:
      A text such as `"a, b and 3 more"`.
    """
    names = list(names)
    text = separator.join(names[:most])
    rest = len(names) - most
    return f"{text} and {rest} more" if rest > 0 else text


def as_item(name: str) -> str:
    """Returns a name as an item of a list, in quotes if it holds a comma."""
    return repr(name) if "," in name else name
