"""Small servers: one that is told of answers, one that is asked for guesses, and the rounds' pages for people."""
