"""What is kept, and what of it may leave: filter, sample, mask. Pure."""
