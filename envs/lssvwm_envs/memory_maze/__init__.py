"""MemoryMaze: a fast native version of the Memory Maze task (Pasukonis et al. 2022, arXiv 2210.13383)."""
