"""`train` in the container: read what the job asks for, train, write the result for SageMaker."""
