"""Raw topic to bars; roles `builder` and `lake`."""
