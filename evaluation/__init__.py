"""Measures of what the model does: parity with the reference, and the quality of its videos."""
