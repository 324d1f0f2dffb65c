"""How good a model is, with intervals, and how to draw it."""
