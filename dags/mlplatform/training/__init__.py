"""What the tasks of ``train_model`` do, with S3 and MLflow, without Airflow."""
