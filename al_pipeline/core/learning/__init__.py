"""From labeled images to a checkpoint, and from a checkpoint to predictions."""
