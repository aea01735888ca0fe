"""FluxForge: exchange sockets → one ordered log per symbol → Bronze, features, bars, lake."""
