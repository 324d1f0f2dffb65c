"""Image active learning with people in the loop."""
