"""A month of market in an hour, through the real process: see __main__."""
