"""Media servers behind one adapter: MediaMTX, and the embedded relay."""
