"""The commands, and the gin configs that they read."""
