"""From observations or spans to requests, split to the size that a server takes. Pure."""
