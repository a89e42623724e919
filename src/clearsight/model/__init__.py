"""The model in plain PyTorch: vision tower, merger, decoder, and weights in and out."""
