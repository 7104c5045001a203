"""Training of world models: the loop, its run folder, and previews of what was learnt."""
