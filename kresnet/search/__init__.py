"""Searches for networks: within a budget, and for the coefficients of compound scaling."""
