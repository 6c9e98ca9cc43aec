"""What the tasks of training do, with S3 and MLflow, without Airflow."""
