"""Both ends of SageMaker's contract, without boto3: the request of a job, and what its container finds."""
