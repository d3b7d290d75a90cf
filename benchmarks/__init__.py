"""Ratios to a peer or to the physical limit, each measured beside its peer in the same run."""
