"""What all rooms use: argument checks, sizes, serialisation, cheap operations.

This is the lowest room: its modules import nothing else of the package.
"""
