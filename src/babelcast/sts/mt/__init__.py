"""Translation: one interface, one module per engine."""
