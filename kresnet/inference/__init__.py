"""Runs networks, in any form in which they are stored."""
