"""Who acts: planners over the world model, agents trained inside it, and their evaluation."""
