"""The Model Context Protocol face: the tool `get-session-analytics`."""
