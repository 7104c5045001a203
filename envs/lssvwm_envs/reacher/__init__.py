"""Reacher: a drawn arm with two joints and continuous actions, native and fast."""
