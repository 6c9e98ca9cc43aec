"""What is decided before anything starts: names, ports, addresses, passwords."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from local.platform.home import ROOT, Home
from local.platform.ports import LOOPBACK
from local.platform.processes import MARKER

REGION = "us-east-1"
ACCOUNT = "123456789012"
BUCKETS = {purpose: f"ml-platform-local-{purpose}" for purpose in ("landing", "data", "artifacts")}
TOPIC = "ml-platform-local-notifications"
STUDIES = "studies"  # database and user of the searches
STUDIES_SECRET = "ml-platform-local-studies"
QUEUE = "ml-platform-local-notifications"  # subscribed to the topic, so that what was said can be read
TRAINING_NAMESPACE = "ml-training"
# What services inherit of the caller's environment. Nothing else: a stray AWS_PROFILE, KUBECONFIG, proxy or
# AIRFLOW__ variable would change what the platform is.
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")


class Secrets(BaseModel):
    """Passwords and keys, made anew for every platform; they protect it from other users of the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    postgres: str
    airflow_database: str
    mlflow_database: str
    studies_database: str
    fernet_key: str
    jwt_secret: str
    api_secret_key: str

    @classmethod
    def generate(cls) -> Secrets:
        """Make new ones."""
        values = {name: secrets.token_urlsafe(24) for name in cls.model_fields}
        values["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        values["jwt_secret"] = secrets.token_urlsafe(64)
        return cls(**values)


@dataclass(frozen=True)
class Facts:
    """Everything a service definition needs to know."""

    home: Home
    ports: dict[str, int]
    secrets: Secrets

    @property
    def aws_endpoint(self) -> str:
        """Address of the AWS API, all services of it."""
        return f"http://{LOOPBACK}:{self.ports['aws']}"

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's page and REST API."""
        return f"http://{LOOPBACK}:{self.ports['airflow']}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow's page and REST API."""
        return f"http://{LOOPBACK}:{self.ports['mlflow']}"

    @property
    def kubernetes_url(self) -> str:
        """Address of the Kubernetes API."""
        return f"https://{LOOPBACK}:{self.ports['kubernetes']}"

    @property
    def topic_arn(self) -> str:
        """The SNS topic of the pipeline's notifications."""
        return f"arn:aws:sns:{REGION}:{ACCOUNT}:{TOPIC}"

    @property
    def queue_url(self) -> str:
        """The SQS queue that keeps them."""
        return f"{self.aws_endpoint}/{ACCOUNT}/{QUEUE}"

    @property
    def execution_role_arn(self) -> str:
        """The role a model runs as; nothing checks it here."""
        return f"arn:aws:iam::{ACCOUNT}:role/ml-platform-local-sagemaker"

    @cached_property
    def git_sha(self) -> str:
        """The commit that is checked out."""
        command = ["git", "rev-parse", "HEAD"]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:  # there is no git
            return "unknown"
        return done.stdout.strip() if done.returncode == 0 else "unknown"

    @property
    def aws_environment(self) -> dict[str, str]:
        """What makes any AWS client talk to the local API, and only to it."""
        return {
            "AWS_ENDPOINT_URL": self.aws_endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def base_environment(self) -> dict[str, str]:
        """What every service gets."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            MARKER: str(self.home.root),
            # A person's own profiles and credentials play no part here.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def addresses(self) -> dict[str, str]:
        """What people and clients want to reach."""
        return {
            "airflow": self.airflow_url,
            "mlflow": self.mlflow_url,
            "aws": self.aws_endpoint,
            "kubernetes": self.kubernetes_url,
            "kubeconfig": str(self.home.kubeconfig),
            "notifications_queue": self.queue_url,
        }

    def write_secrets(self) -> None:
        """Keep the secrets where only this user can read them."""
        path = self.home.secrets_file
        path.touch(mode=0o600)
        path.write_text(json.dumps(self.secrets.model_dump(), indent=2), encoding="utf-8")
