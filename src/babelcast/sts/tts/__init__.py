"""Speech synthesis: one interface, one module per engine."""
