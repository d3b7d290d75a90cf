"""Builders: what makes packages out of an aport in a build root, one module per value the user may choose."""
