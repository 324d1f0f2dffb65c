"""The rounds as pages for a browser: what was asked and why, what came of it, and which labels to look at again."""
