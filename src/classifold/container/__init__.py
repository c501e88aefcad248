"""`train` in the container: read the job's order, train, leave the result where SageMaker looks for it."""
