"""The platform in Airflow: operators, sensors, callbacks, assets and task groups."""
