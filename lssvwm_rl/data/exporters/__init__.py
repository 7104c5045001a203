"""Episode stores as the data sets of others."""
