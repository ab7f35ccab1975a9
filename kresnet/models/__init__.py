"""Every network: families, the networks of each, and what builds them."""
