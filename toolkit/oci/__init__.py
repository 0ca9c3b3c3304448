"""The words of the OCI standards, and nothing else."""
