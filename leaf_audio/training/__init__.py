"""The training loop, the folder of a run, strategies, studies."""
