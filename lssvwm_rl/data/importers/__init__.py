"""Trajectories that others recorded, into episode stores: one file per format."""
