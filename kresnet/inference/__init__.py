"""Networks at work, in whatever form they are kept."""
