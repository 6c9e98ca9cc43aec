variable "availability_zones" {
  description = "The 2 or 3 availability zones to spread over; append to the list, never reorder it: subnets would be replaced."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.availability_zones) >= 2 && length(var.availability_zones) <= 3
    error_message = "availability_zones must name 2 or 3 zones: Airflow, EKS and RDS need two, and the address plan has room for three."
  }

  validation {
    condition     = length(distinct(var.availability_zones)) == length(var.availability_zones)
    error_message = "availability_zones must differ: name each zone once."
  }

  validation {
    condition     = alltrue([for zone in var.availability_zones : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$", zone))])
    error_message = "availability_zones must be names of availability zones: write them like eu-central-1a (local and wavelength zones lack the services)."
  }
}

variable "cidr" {
  description = "IPv4 network of the VPC, a private one between /16 and /19."
  type        = string
  default     = "10.20.0.0/16"
  nullable    = false

  validation {
    condition     = can(regex("^([0-9]+\\.){3}[0-9]+/[0-9]+$", var.cidr)) && can(cidrhost(var.cidr, 0))
    error_message = "cidr must be an IPv4 network: write it like 10.20.0.0/16."
  }

  validation {
    condition     = try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0], true)
    error_message = "cidr must start at its network address: write ${try(cidrhost(var.cidr, 0), "10.20.0.0")}/${try(split("/", var.cidr)[1], "16")}."
  }

  validation {
    condition     = try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 19, true)
    error_message = "cidr must be between /16 and /19: AWS allows no larger VPC, and in a smaller one pods run out of addresses (a private subnet is a sixteenth of it)."
  }

  validation {
    # Two networks overlap exactly if they are the same one once cut to the shorter prefix. A private range is never
    # longer than the VPC's prefix, so this says that the VPC lies inside of one.
    condition = try(anytrue([
      for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"] :
      cidrhost("${split("/", var.cidr)[0]}/${split("/", range)[1]}", 0) == split("/", range)[0]
    ]), true)
    error_message = "cidr must be private: take it from 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10."
  }

  validation {
    condition     = try(cidrhost("${split("/", var.cidr)[0]}/16", 0) != "172.17.0.0", true)
    error_message = "cidr must not lie in 172.17.0.0/16: Docker uses it on nodes and SageMaker instances, which could not reach the VPC; choose another."
  }
}

variable "flow_log_retention_days" {
  description = "Days the flow logs are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.flow_log_retention_days
    )
    error_message = "flow_log_retention_days must be a period CloudWatch Logs knows: choose 7, 14, 30, 60, 90, 180, 365 or another of its list."
  }
}

variable "flow_log_traffic_type" {
  description = "Which traffic the flow logs record: ALL, ACCEPT or REJECT."
  type        = string
  default     = "ALL"
  nullable    = false

  validation {
    condition     = contains(["ALL", "ACCEPT", "REJECT"], var.flow_log_traffic_type)
    error_message = "flow_log_traffic_type must be ALL, ACCEPT or REJECT."
  }
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (the role of the flow logs); null takes name."
  type        = string
  default     = null
}

variable "interface_endpoints" {
  description = "AWS services reached inside the VPC instead of through NAT, by short name; each costs by the hour and zone."
  type        = list(string)
  default = [
    "ecr.api",
    "ecr.dkr",
    "eks-auth",
    "kms",
    "logs",
    "monitoring",
    "sagemaker.api",
    "sagemaker.runtime",
    "secretsmanager",
    "sns",
    "sqs",
    "sts",
  ]
  nullable = false

  validation {
    condition     = alltrue([for service in var.interface_endpoints : can(regex("^[a-z0-9]+([.-][a-z0-9]+)*$", service))])
    error_message = "interface_endpoints must be short names of services: write ecr.api, not com.amazonaws.eu-central-1.ecr.api."
  }

  validation {
    condition     = !anytrue([for service in var.interface_endpoints : startswith(service, "com.amazonaws")])
    error_message = "interface_endpoints must be short names of services: leave out com.amazonaws and the region."
  }

  validation {
    condition     = length(distinct(var.interface_endpoints)) == length(var.interface_endpoints)
    error_message = "interface_endpoints must differ: name each service once."
  }

  validation {
    condition     = length(setintersection(var.interface_endpoints, ["s3", "dynamodb"])) == 0
    error_message = "interface_endpoints must not hold s3 or dynamodb: their gateway endpoints are always there, and free; leave them out."
  }
}

variable "kms_key_arn" {
  description = "ARN of the environment's KMS key, which encrypts the flow logs."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key: take kms_key_arn of the storage module, not an alias or a key id."
  }
}

variable "name" {
  description = "Prefix of all names, such as ml-platform-dev."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 30 lower-case letters, digits and hyphens: shorten it or remove other characters."
  }
}

variable "peer_cidrs" {
  description = "IPv4 networks this VPC may be connected with (other environments, offices, VPNs); cidr must not overlap any."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for peer in var.peer_cidrs : can(regex("^([0-9]+\\.){3}[0-9]+/[0-9]+$", peer)) && can(cidrhost(peer, 0))
    ])
    error_message = "peer_cidrs must be IPv4 networks: write each like 10.30.0.0/16."
  }

  validation {
    # Two networks overlap exactly if they are the same one once cut to the shorter prefix.
    condition = alltrue([
      for peer in var.peer_cidrs : try(
        cidrhost("${split("/", peer)[0]}/${min(split("/", peer)[1], split("/", var.cidr)[1])}", 0) !=
        cidrhost("${split("/", var.cidr)[0]}/${min(split("/", peer)[1], split("/", var.cidr)[1])}", 0),
        true
      )
    ])
    error_message = "cidr ${var.cidr} overlaps one of peer_cidrs (${join(", ", [
      for peer in var.peer_cidrs : peer if try(
        cidrhost("${split("/", peer)[0]}/${min(split("/", peer)[1], split("/", var.cidr)[1])}", 0) ==
        cidrhost("${split("/", var.cidr)[0]}/${min(split("/", peer)[1], split("/", var.cidr)[1])}", 0),
        false
      )
    ])}): traffic between them could not be routed; choose another cidr."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the permissions boundary of the flow logs' role; null sets none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of an IAM policy: take permissions_boundary_arn of the bootstrap."
  }
}

variable "single_nat_gateway" {
  description = "Whether one NAT gateway serves all zones (cheap), instead of one in each (survives the loss of a zone)."
  type        = bool
  default     = true
  nullable    = false
}
