"""A run's life: start, observe, cancel, resume."""
