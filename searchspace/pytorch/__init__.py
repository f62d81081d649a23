"""Networks as PyTorch modules and as source code. The only folder that knows torch."""
