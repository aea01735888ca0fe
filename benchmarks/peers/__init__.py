"""The same features, written as one would with other tools; each gives the feature floor's columns."""
