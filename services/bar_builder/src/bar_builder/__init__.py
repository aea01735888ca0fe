"""Raw topic to time bars; roles `builder` and `lake`."""
