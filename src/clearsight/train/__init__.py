"""Training: drawn worlds, packing, loss, optimiser, and a loop that resumes to the exact next batch."""
