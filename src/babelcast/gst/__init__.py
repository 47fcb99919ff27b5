"""GStreamer: the only package that imports gi (with worker and bridge)."""
