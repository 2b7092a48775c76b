"""Everything between a call and a provider: cache, budget, limits, accounting."""
