"""The speech service past one machine: the same app in replicas of Ray Serve. ``run.py`` is read first."""
