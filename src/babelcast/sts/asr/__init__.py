"""Speech recognition: one interface, one module per engine."""
