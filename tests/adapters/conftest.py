import os

os.environ["KERAS_BACKEND"] = "jax"  # read once, when Keras is first imported
