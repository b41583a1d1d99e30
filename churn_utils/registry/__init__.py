"""MLflow runs and model versions: files, origin, approvals, and the history of deployments."""
