"""Session analytics on PostgreSQL."""
