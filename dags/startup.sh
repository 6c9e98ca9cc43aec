#!/usr/bin/env bash
# MWAA runs this on every worker, scheduler and web server before Airflow starts (limit: 5 minutes).
# It sets what MWAA does not let one set elsewhere; it holds no secret and may run any number of times.
set -euo pipefail

# A request that hangs must not hold a worker: boto3's own defaults wait a minute and try legacy style.
export AWS_RETRY_MODE=standard
export AWS_MAX_ATTEMPTS=5

# What the libraries write to logs is for people, not for counting.
export MLFLOW_DISABLE_TELEMETRY=true
export PYTHONUNBUFFERED=1
