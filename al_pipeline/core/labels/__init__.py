"""From what people said to the labels that are trained on."""
