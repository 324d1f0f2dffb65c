"""Images: which there are, decoded once, embedded once."""
