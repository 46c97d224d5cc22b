"""Whether decoded weights are the source's, but for rounding: no other model's, not shuffled, not zeroed."""
