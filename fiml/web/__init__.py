"""The web face: a page, the same figures as JSON, live updates, and MCP, from one application."""
