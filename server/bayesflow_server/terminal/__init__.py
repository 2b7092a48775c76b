"""What a person sees in a terminal: progress, tables, plots. Only `cli` calls it."""
