"""Raw topic to feature rows, enriched trades and tickers, and those across markets; roles `engine`, `cross`, `lake`."""
