"""Captions: what was said and what is said instead, on the clock of the pictures."""
