"""Fast paths, each beside the slow reference function that defines it."""
