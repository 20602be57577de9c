"""What leaks: the same spans, with a secret in every place, through several libraries, each told to mask it; ``make leaks``."""
