"""What a running process tells of itself, to who asks for it: metrics, spans, a log."""
