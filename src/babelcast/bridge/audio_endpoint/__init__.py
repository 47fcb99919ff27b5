"""The audio endpoint: sound pushed in by whoever has some, and one endless stream of AAC out for whoever listens."""
