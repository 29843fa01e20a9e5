"""`python -m trainer.sagemaker`: starts training jobs and endpoints on SageMaker."""
