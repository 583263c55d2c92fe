"""Sessions: what an application writes, and the figures it reads back."""
