"""Which streams should run, and making it so."""
