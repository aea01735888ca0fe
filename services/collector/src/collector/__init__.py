"""Exchange sockets → the raw topic."""
