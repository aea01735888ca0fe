"""Raw topic to feature rows, enriched trades and tickers; roles `engine` and `lake`."""
