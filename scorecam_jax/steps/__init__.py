"""Steps: masks, weights, sums, channels and scores. Pure functions of arrays."""
