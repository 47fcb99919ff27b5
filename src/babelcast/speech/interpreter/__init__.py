"""Continuous interpreters in the cloud: sound in and sound out without end, made into segments with lineage."""
