"""Measures of a world model: numbers in, numbers out; what draws, writes or plays is elsewhere."""
