"""The classes of `survival.py`, a module each: `tries(folder, rng, quick)` yields of each what was wrong, or None."""
