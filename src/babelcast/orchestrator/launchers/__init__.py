"""How workers are started and found again: one small interface, one module per engine."""
