"""Publishing: models, rows and Spaces on the Hub, and what must hold before a file leaves this machine."""

DEFAULT_LICENCE = "apache-2.0"  # of weights, where nobody says another
