"""Runs untrusted workflow code; knows nothing of LLMs, MCP or SQL."""
