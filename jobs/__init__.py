"""What a job is: its specification, its record, its queue, its objects. Shared by the doors and the workers."""
