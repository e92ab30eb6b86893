"""Methods that follow gradients down to the input, and need no layer."""
