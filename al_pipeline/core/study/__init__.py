"""The loop without people, many times: which query strategy is worth its labels."""
