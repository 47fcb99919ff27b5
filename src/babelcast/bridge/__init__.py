"""The media bridge: one source in, several destinations out, with sound of its own, a preview and a REST API."""
