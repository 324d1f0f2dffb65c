"""The two small servers that Label Studio talks to: one that is told of answers, one that is asked for guesses."""
