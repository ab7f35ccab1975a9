"""Searches for networks: within a budget, for the coefficients of compound scaling, and by comparison."""
