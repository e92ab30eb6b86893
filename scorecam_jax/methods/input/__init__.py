"""Methods that differentiate with respect to the input, and need no layer."""
