"""Checks that any implementation of credit and objectives can be held against."""
