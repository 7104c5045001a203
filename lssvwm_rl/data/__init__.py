"""Episodes on disk, clips of them for training, and their collection."""
