"""What every server here needs, whatever it serves: names, a socket."""
