"""Measurements. Each module runs as a command, measures on the machine it runs on, and claims nothing else."""
