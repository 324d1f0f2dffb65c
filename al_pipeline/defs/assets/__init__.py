"""The assets, a module for each group of the graph or part of it."""
