"""What an error of another library says, for a message of one line."""


def first_line(error: Exception) -> str:
    """Returns the first line of what an error says, or else its type.

    Args:
      error: The error. Those of some libraries have many lines, or none.
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
