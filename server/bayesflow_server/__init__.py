"""BayesFlow MCP: the application around the sampler and the sandbox."""
