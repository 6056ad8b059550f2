"""The fast path: Leaf's energies at a fraction of the full-rate cost."""
