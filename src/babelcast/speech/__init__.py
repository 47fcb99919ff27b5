"""Speech backends as the worker sees them: a backend opens sessions, a session turns frames into dub segments."""
