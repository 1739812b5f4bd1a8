"""Publishing: models, rows and Spaces on the Hub, and what must hold before a file leaves this machine."""
