"""What an MCP client sees: tools, their texts and their result models."""
