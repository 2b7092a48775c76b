"""`python -m bayesflow_server` is `bayesflow-mcp`."""

from bayesflow_server.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
