"""What every room uses: checks of arguments, saving, cheap operations."""
