"""The steps of a method (masks, scores, weights, channels, sums) as pure functions of arrays."""
