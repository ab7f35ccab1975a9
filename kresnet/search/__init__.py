"""Searching for a network."""
