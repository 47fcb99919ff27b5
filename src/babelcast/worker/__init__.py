"""One stream's worker: read session.py first."""
