"""What rendering costs: this implementation beside a plain one, in one process, in turn, with the same seeds."""
