"""The networks: an engine for each family, and a line for each network."""
