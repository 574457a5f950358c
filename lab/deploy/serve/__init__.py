"""A model behind HTTP: server, request format, service."""
