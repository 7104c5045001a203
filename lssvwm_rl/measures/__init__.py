"""Measures of a world model: frames, memory, cost, and the report that shows them."""
