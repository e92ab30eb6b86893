"""What the rooms share: taking pytrees apart, and checking arguments."""
