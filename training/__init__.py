"""Training: data, objectives and the loop. Imports `model` and nothing else of this project."""
