"""Commands that train, use and compare audio classifiers, and their configs."""
