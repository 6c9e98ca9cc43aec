variable "disk_gib" {
  description = "Size of its disk; AWS's image takes 8."
  type        = number
  default     = 8
  nullable    = false

  validation {
    condition     = var.disk_gib >= 8
    error_message = "disk_gib must be at least 8: AWS's image is that large."
  }
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (role, policy, instance profile); null takes name."
  type        = string
  default     = null
}

variable "http_security_group_ids" {
  description = "Security groups that it may reach over plain HTTP, by a name of your choice."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "https_egress_cidrs" {
  description = "Networks that it may reach on 443; with interface endpoints of ssm and ssmmessages the VPC's own is enough."
  type        = list(string)
  default     = ["0.0.0.0/0"]
  nullable    = false

  validation {
    condition     = length(var.https_egress_cidrs) > 0 && alltrue([for cidr in var.https_egress_cidrs : can(cidrhost(cidr, 0))])
    error_message = "https_egress_cidrs must be networks, at least one: Systems Manager is reached on 443; write them like 10.20.0.0/16."
  }
}

variable "instance_type" {
  description = "Instance type, a small one with a Graviton processor."
  type        = string
  default     = "t4g.nano"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+[0-9]+g[a-z]*\\.[a-z0-9]+$", var.instance_type))
    error_message = "instance_type must have a Graviton processor, as its image is for one: take t4g.nano or t4g.micro."
  }
}

variable "name" {
  description = "Name of the platform; all that is made here is called <name>-bastion."
  type        = string
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of its role; null for none."
  type        = string
  default     = null
}

variable "subnet_id" {
  description = "The private subnet it is in, with a way out to Systems Manager."
  type        = string
  nullable    = false
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
  nullable    = false
}
