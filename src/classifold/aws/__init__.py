"""The same run on SageMaker: buckets, role, image, job, logs and results, through boto3 alone."""
