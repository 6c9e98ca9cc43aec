"""People's ways to what is private: Airflow's page, MLflow and the Kubernetes API.

`targets` says what there is, `probe` asks whether it answers at an address, `forwards` leads to it from this machine
through the bastion, `opening` is the command that does it all, and `ways` says and takes the way that there is.
"""

from cloud.access.opening import open_ways
from cloud.access.ways import cluster_kubeconfig, reached_from_here

__all__ = ["cluster_kubeconfig", "open_ways", "reached_from_here"]
