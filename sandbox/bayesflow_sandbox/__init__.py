"""Runs untrusted workflow code; knows nothing of LLMs, MCP or SQL.

``Sandbox.run_workflow`` runs a workflow and returns an ``Outcome``; ``Sandbox.run_tests`` runs unit
tests on a solution, from another process, and returns a ``TestReport``; ``policy`` says beforehand
what may run at all; ``host`` is what a workflow may reach.
"""
