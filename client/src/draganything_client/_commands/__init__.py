"""The commands that need nothing but HTTP."""
