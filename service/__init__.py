"""The doors: HTTP today. They validate, store, queue and report; they never render."""
