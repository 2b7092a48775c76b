"""Tasks and scores: datasets, splits, scorers, and running a workflow over examples."""
