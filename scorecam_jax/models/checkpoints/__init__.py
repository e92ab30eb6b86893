"""PyTorch and safetensors checkpoints: reading files, and filling networks with them."""
