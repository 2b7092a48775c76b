"""Bayesian workflow generation: Sequential Monte Carlo over workflow steps."""
