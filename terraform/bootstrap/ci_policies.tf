# What CI may do, a document per concern, each in its file ci_<concern>.tf. Two rules run through all of them:
# - names: whatever AWS lets be named in an ARN is limited to "<name>-*" of this account;
# - place: what has no name when it is made (most of EC2) is limited to the region, and may be deleted only where it
#   carries our Project tag, which the provider puts on everything it makes.
locals {
  here        = "${var.region}:${local.account_id}"
  ci_role_arn = "arn:${local.partition}:iam::${local.account_id}:role/${module.names.global_name}-ci"

  ci_iam = [for kind in ["instance-profile", "policy", "role"] : (
    "arn:${local.partition}:iam::${local.account_id}:${kind}/${local.global_names}-*"
  )]

  ci_policies = {
    access = {
      description = "Ways to Airflow and the Kubernetes API of the environments, through their bastions"
      document    = data.aws_iam_policy_document.ci_access.json
    }
    data = {
      description = "Buckets, keys, queues, topics, logs and databases of the environments"
      document    = data.aws_iam_policy_document.ci_data.json
    }
    network = {
      description = "Networks, security groups, launch templates and load balancers of the environments"
      document    = data.aws_iam_policy_document.ci_network.json
    }
    preflight = {
      description = "Quotas of the account, and what counts against them"
      document    = data.aws_iam_policy_document.ci_preflight.json
    }
    release = {
      description = "States of the environments and images"
      document    = data.aws_iam_policy_document.ci_release.json
    }
    roles = {
      description = "Roles of the environments, under the permission boundary"
      document    = data.aws_iam_policy_document.ci_roles.json
    }
    services = {
      description = "Clusters, Airflow, MLflow, endpoints, alarms and budgets of the environments"
      document    = data.aws_iam_policy_document.ci_services.json
    }
  }
}
