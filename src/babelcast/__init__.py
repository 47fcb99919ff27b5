"""Babelcast dubs a live stream while it is on air."""

__version__ = "0.1.0"
