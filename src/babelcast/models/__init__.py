"""Models: which there are, how they get here, and where they lie. No model is ever loaded from the network."""
