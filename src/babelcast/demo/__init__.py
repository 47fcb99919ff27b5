"""The demo: a made broadcast, dubbed live, measured from outside."""
