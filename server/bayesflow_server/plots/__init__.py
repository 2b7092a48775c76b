"""Pictures of a run: pure drawing functions, and what gathers their data from the store."""
