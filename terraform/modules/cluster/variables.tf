variable "addon_versions" {
  description = "Versions of EKS add-ons by name; the others get the default for the cluster's version."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.addon_versions), local.addon_names)) == 0
    error_message = "addon_versions names an add-on that is not installed: use ${join(", ", local.addon_names)}."
  }

  validation {
    condition = alltrue([
      for version in values(var.addon_versions) : can(regex("^v[0-9]+[.][0-9]+[.][0-9]+-eksbuild[.][0-9]+$", version))
    ])
    error_message = "addon_versions must be versions as EKS names them, such as v1.20.4-eksbuild.2 (`aws eks describe-addon-versions`)."
  }
}

variable "admin_role_arns" {
  description = "ARNs of the IAM roles that administer the cluster; with none, it is the role (or user) that applies first."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.admin_role_arns : can(regex("^arn:[^:]+:iam::[0-9]{12}:role/.+$", arn))])
    error_message = "admin_role_arns must be ARNs of IAM roles (arn:aws:iam::123456789012:role/name), not of users or of sessions."
  }

  validation {
    condition     = !contains(var.admin_role_arns, var.airflow_role_arn)
    error_message = "admin_role_arns must not contain airflow_role_arn: Airflow starts pods in two namespaces, that is all it may do."
  }

  validation {
    condition     = length(distinct(var.admin_role_arns)) == length(var.admin_role_arns)
    error_message = "admin_role_arns must name each role only once."
  }
}

variable "airflow_role_arn" {
  description = "ARN of the role Airflow runs as; it becomes a member of the Kubernetes group ml-platform:airflow."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:iam::[0-9]{12}:role/.+$", var.airflow_role_arn))
    error_message = "airflow_role_arn must be the ARN of an IAM role, as the airflow module's output execution_role_arn gives it."
  }
}

variable "buckets" {
  description = "The buckets the steps work with, as the storage module's output of the same name gives them."
  type = object({
    landing   = object({ name = string, arn = string })
    data      = object({ name = string, arn = string })
    artifacts = object({ name = string, arn = string })
  })
  nullable = false
}

variable "client_cidrs" {
  description = "Private networks from which people reach the Kubernetes API."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : try(cidrhost(cidr, 0) == split("/", cidr)[0] && tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "client_cidrs must be IPv4 networks that start at their network address, /8 or smaller: write them like 10.0.0.0/16."
  }
}

variable "client_security_group_ids" {
  description = "Security groups besides the nodes' that may reach the Kubernetes API, by a name such as airflow."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "cpu_node_group" {
  description = "Nodes of the steps without GPU; instance types should have the same CPU and memory."
  type = object({
    instance_types = optional(list(string), ["m6i.xlarge", "m6a.xlarge", "m5.xlarge"])
    capacity_type  = optional(string, "ON_DEMAND")
    min_size       = optional(number, 0)
    max_size       = optional(number, 4)
    disk_gib       = optional(number, 100)
  })
  default  = {}
  nullable = false

  validation {
    condition     = length(var.cpu_node_group.instance_types) > 0
    error_message = "cpu_node_group.instance_types must name at least one instance type."
  }

  validation {
    condition = alltrue([
      for type in var.cpu_node_group.instance_types : can(regex(local.general_instance_type, type))
    ])
    error_message = "cpu_node_group.instance_types has an unknown instance family: use types like m6i.large of the families ${join(", ", local.general_instance_families)}."
  }

  validation {
    condition     = contains(["ON_DEMAND", "SPOT"], var.cpu_node_group.capacity_type)
    error_message = "cpu_node_group.capacity_type must be ON_DEMAND or SPOT."
  }

  validation {
    condition     = var.cpu_node_group.min_size >= 0
    error_message = "cpu_node_group.min_size must be at least 0: 0 lets the group go to nothing."
  }

  validation {
    condition     = var.cpu_node_group.max_size >= 1
    error_message = "cpu_node_group.max_size must be at least 1; EKS takes no smaller one."
  }

  validation {
    condition     = var.cpu_node_group.max_size >= var.cpu_node_group.min_size
    error_message = "cpu_node_group.max_size must be at least min_size: raise max_size or lower min_size."
  }

  validation {
    condition     = var.cpu_node_group.disk_gib >= 20 && var.cpu_node_group.disk_gib <= 16384
    error_message = "cpu_node_group.disk_gib must be from 20 to 16384: container images and the pods' scratch space are on it."
  }
}

variable "endpoint_name_prefix" {
  description = "What names of SageMaker endpoints, their models and configurations start with, before a hyphen."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", var.endpoint_name_prefix))
    error_message = "endpoint_name_prefix must be 1 to 32 lower-case letters, digits and hyphens, with no hyphen at its ends: ARNs of endpoints are in lower case."
  }
}

variable "endpoint_public_access_cidrs" {
  description = "Networks that may reach the Kubernetes API from the internet; with none, it has no public address."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.endpoint_public_access_cidrs : can(cidrhost(cidr, 0))])
    error_message = "endpoint_public_access_cidrs must be networks in CIDR notation, such as 203.0.113.0/24."
  }

  validation {
    condition = alltrue([
      for cidr in var.endpoint_public_access_cidrs :
      try(tonumber(split("/", cidr)[1]) >= 16 && !strcontains(cidr, ":"), true)
    ])
    error_message = "endpoint_public_access_cidrs must not open the Kubernetes API to the world: name the IPv4 networks of your offices or VPN, none wider than /16 (not 0.0.0.0/0)."
  }
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (roles); null takes name."
  type        = string
  default     = null
}

variable "gpu_fallback_node_group" {
  description = "On-demand GPU nodes for when there is no spot capacity; null for none."
  type = object({
    instance_types = optional(list(string), ["g5.xlarge", "g6.xlarge", "g4dn.xlarge"])
    min_size       = optional(number, 0)
    max_size       = optional(number, 2)
    disk_gib       = optional(number, 150)
    gpus_per_node  = optional(number, 1)
  })
  default  = {}
  nullable = true

  validation {
    condition     = alltrue([for group in var.gpu_fallback_node_group[*] : length(group.instance_types) > 0])
    error_message = "gpu_fallback_node_group.instance_types must name at least one instance type."
  }

  validation {
    condition = alltrue([
      for type in flatten(var.gpu_fallback_node_group[*].instance_types) : can(regex(local.gpu_instance_type, type))
    ])
    error_message = "gpu_fallback_node_group.instance_types has an unknown instance family: use types like g5.xlarge of the families ${join(", ", local.gpu_instance_families)}."
  }

  validation {
    condition     = alltrue([for group in var.gpu_fallback_node_group[*] : group.min_size >= 0])
    error_message = "gpu_fallback_node_group.min_size must be at least 0: 0 lets the group go to nothing."
  }

  validation {
    condition     = alltrue([for group in var.gpu_fallback_node_group[*] : group.max_size >= 1])
    error_message = "gpu_fallback_node_group.max_size must be at least 1; EKS takes no smaller one. For no fallback at all set gpu_fallback_node_group = null."
  }

  validation {
    condition     = alltrue([for group in var.gpu_fallback_node_group[*] : group.max_size >= group.min_size])
    error_message = "gpu_fallback_node_group.max_size must be at least min_size: raise max_size or lower min_size."
  }

  validation {
    condition = alltrue([
      for group in var.gpu_fallback_node_group[*] : group.disk_gib >= 20 && group.disk_gib <= 16384
    ])
    error_message = "gpu_fallback_node_group.disk_gib must be from 20 to 16384: container images and the pods' scratch space are on it."
  }

  validation {
    condition     = alltrue([for group in var.gpu_fallback_node_group[*] : contains([1, 4, 8], group.gpus_per_node)])
    error_message = "gpu_fallback_node_group.gpus_per_node must be what its instance types have: 1, 4 or 8."
  }

  validation {
    condition     = var.gpu_fallback_node_group == null || try(var.gpu_node_group.capacity_type == "SPOT", false)
    error_message = "gpu_fallback_node_group must be null where gpu_node_group is null or its capacity_type is ON_DEMAND: there is nothing to fall back from."
  }
}

variable "gpu_node_group" {
  description = "Nodes of the training step; instance types should have the same CPU, memory and number of GPUs; null for no GPUs at all."
  type = object({
    instance_types = optional(list(string), ["g5.xlarge", "g6.xlarge", "g4dn.xlarge"])
    capacity_type  = optional(string, "SPOT")
    min_size       = optional(number, 0)
    max_size       = optional(number, 4)
    disk_gib       = optional(number, 150)
    gpus_per_node  = optional(number, 1)
  })
  default  = {}
  nullable = true

  validation {
    condition     = alltrue([for group in var.gpu_node_group[*] : length(group.instance_types) > 0])
    error_message = "gpu_node_group.instance_types must name at least one instance type."
  }

  validation {
    condition = alltrue([
      for type in flatten(var.gpu_node_group[*].instance_types) : can(regex(local.gpu_instance_type, type))
    ])
    error_message = "gpu_node_group.instance_types has an unknown instance family: use types like g5.xlarge of the families ${join(", ", local.gpu_instance_families)}."
  }

  validation {
    condition     = alltrue([for group in var.gpu_node_group[*] : contains(["ON_DEMAND", "SPOT"], group.capacity_type)])
    error_message = "gpu_node_group.capacity_type must be ON_DEMAND or SPOT."
  }

  validation {
    condition     = alltrue([for group in var.gpu_node_group[*] : group.min_size >= 0])
    error_message = "gpu_node_group.min_size must be at least 0: 0 lets the group go to nothing."
  }

  validation {
    condition     = alltrue([for group in var.gpu_node_group[*] : group.max_size >= 1])
    error_message = "gpu_node_group.max_size must be at least 1; EKS takes no smaller one. For no GPUs at all set gpu_node_group = null."
  }

  validation {
    condition     = alltrue([for group in var.gpu_node_group[*] : group.max_size >= group.min_size])
    error_message = "gpu_node_group.max_size must be at least min_size: raise max_size or lower min_size."
  }

  validation {
    condition = alltrue([
      for group in var.gpu_node_group[*] : group.disk_gib >= 20 && group.disk_gib <= 16384
    ])
    error_message = "gpu_node_group.disk_gib must be from 20 to 16384: container images and the pods' scratch space are on it."
  }

  validation {
    condition     = alltrue([for group in var.gpu_node_group[*] : contains([1, 4, 8], group.gpus_per_node)])
    error_message = "gpu_node_group.gpus_per_node must be what its instance types have: 1, 4 or 8."
  }
}

variable "kms_key_arn" {
  description = "ARN of the environment's KMS key: encrypts Kubernetes secrets, logs and disks, and the buckets."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, not of an alias, as the storage module's output kms_key_arn gives it."
  }
}

variable "kubernetes_version" {
  description = "Kubernetes version of control plane and nodes; raise it by one minor version at a time."
  type        = string
  default     = "1.36"
  nullable    = false

  validation {
    condition     = can(regex("^1[.](3[2-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version from 1.32, such as 1.36: without a v in front, without a patch number."
  }
}

variable "log_retention_days" {
  description = "Days for which logs of the control plane, the nodes and the pods are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days must be a number that CloudWatch Logs knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "name" {
  description = "Name of the cluster, and what the names of everything else here start with."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 32 lower-case letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the policy that bounds all roles made here; null for no boundary."
  type        = string
  default     = null
}

variable "private_subnet_ids" {
  description = "Private subnets of control plane and nodes, one per availability zone. They count when each is made: more later on replace nothing."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.private_subnet_ids) >= 2 && length(var.private_subnet_ids) <= 3
    error_message = "private_subnet_ids must name two or three subnets, each in another availability zone: EKS takes no cluster in a single zone."
  }

  validation {
    condition     = length(distinct(var.private_subnet_ids)) == length(var.private_subnet_ids)
    error_message = "private_subnet_ids must name each subnet only once."
  }
}

variable "serving_role_arn" {
  description = "ARN of the role models run as, the only one the deployer may pass to SageMaker."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:iam::[0-9]{12}:role/.+$", var.serving_role_arn))
    error_message = "serving_role_arn must be the ARN of an IAM role, as the serving module's output execution_role_arn gives it."
  }
}

variable "spark" {
  description = "The Spark application that step prepare may submit jobs to, and the role they run as; null for none."
  type        = object({ application_arn = string, execution_role_arn = string })
  default     = null
}

variable "studies_user_arn" {
  description = "ARN of the database user of the searches' studies, as the mlflow module's output studies_user_arn gives it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:rds-db:[^:]+:[0-9]{12}:dbuser:.+/.+$", var.studies_user_arn))
    error_message = "studies_user_arn must be the ARN of a database user: arn:aws:rds-db:<region>:<account>:dbuser:<resource id>/<user>."
  }
}

variable "system_node_group" {
  description = "Nodes of the add-ons; always on demand."
  type = object({
    instance_types = optional(list(string), ["t3.large", "t3a.large", "m6i.large"])
    min_size       = optional(number, 2)
    max_size       = optional(number, 3)
    disk_gib       = optional(number, 50)
  })
  default  = {}
  nullable = false

  validation {
    condition     = length(var.system_node_group.instance_types) > 0
    error_message = "system_node_group.instance_types must name at least one instance type."
  }

  validation {
    condition = alltrue([
      for type in var.system_node_group.instance_types : can(regex(local.general_instance_type, type))
    ])
    error_message = "system_node_group.instance_types has an unknown instance family: use types like m6i.large of the families ${join(", ", local.general_instance_families)}."
  }

  validation {
    condition     = var.system_node_group.min_size >= 1
    error_message = "system_node_group.min_size must be at least 1: the add-ons need a node."
  }

  validation {
    condition     = var.system_node_group.max_size >= 1
    error_message = "system_node_group.max_size must be at least 1; EKS takes no smaller one."
  }

  validation {
    condition     = var.system_node_group.max_size >= var.system_node_group.min_size
    error_message = "system_node_group.max_size must be at least min_size: raise max_size or lower min_size."
  }

  validation {
    condition     = var.system_node_group.disk_gib >= 20 && var.system_node_group.disk_gib <= 16384
    error_message = "system_node_group.disk_gib must be from 20 to 16384: container images and the pods' scratch space are on it."
  }
}

variable "tags" {
  description = "Tags of instances, their disks and network interfaces, which the provider's default tags do not reach."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "upgrade_support_type" {
  description = "When a version's standard support ends, STANDARD upgrades by itself, EXTENDED costs six times as much."
  type        = string
  default     = "STANDARD"
  nullable    = false

  validation {
    condition     = contains(["EXTENDED", "STANDARD"], var.upgrade_support_type)
    error_message = "upgrade_support_type must be STANDARD or EXTENDED."
  }
}

variable "vpc_id" {
  description = "VPC of the subnets."
  type        = string
  nullable    = false
}
