"""Taking speech out of a programme so that the sound behind it stays."""
