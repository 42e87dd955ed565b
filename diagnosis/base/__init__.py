"""Shared by all other packages: the exception for users, sizes and durations."""
