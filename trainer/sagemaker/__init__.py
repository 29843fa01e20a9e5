"""`outstep sagemaker`: starts training jobs and endpoints on SageMaker."""
