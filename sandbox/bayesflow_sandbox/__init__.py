"""Runs untrusted workflow code; knows nothing of LLMs, MCP or SQL.

``Sandbox.run_workflow`` runs a workflow and returns an ``Outcome``; ``policy`` says beforehand what
may run at all; ``host`` is what a workflow may reach.
"""
