"""What is fast: rows of one table, each the reference algebra against what replaces it, timed turn by turn."""
