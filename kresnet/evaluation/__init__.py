"""What a network is worth, and what came of a training run."""
