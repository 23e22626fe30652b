"""What accepting a job costs here and in other servers of models, and what each of them then holds on to."""
