"""Worlds of text: rooms, things in them, and commands."""
