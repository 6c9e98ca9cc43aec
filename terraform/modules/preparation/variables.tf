variable "data_bucket" {
  description = "The bucket of accepted files and runs."
  type        = object({ name = string, arn = string })
  nullable    = false
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (the role); null takes name."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "Key that encrypts the data bucket."
  type        = string
  nullable    = false
}

variable "maximum_disk_gib" {
  description = "Disk of all workers together, at most."
  type        = number
  default     = 2000
  nullable    = false
}

variable "maximum_memory_gib" {
  description = "Memory of all workers together, at most."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.maximum_memory_gib >= 8
    error_message = "maximum_memory_gib must be at least 8: a driver and one executor need it."
  }
}

variable "maximum_vcpu" {
  description = "Cores of all workers together, at most; what a mistake can cost in an hour."
  type        = number
  default     = 128
  nullable    = false

  validation {
    condition     = var.maximum_vcpu >= 2
    error_message = "maximum_vcpu must be at least 2: a driver and one executor need a core each."
  }
}

variable "name" {
  description = "Name of the platform; the application and its role are called <name>-preparation."
  type        = string
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the job's role; null for none."
  type        = string
  default     = null
}

variable "private_subnet_ids" {
  description = "Private subnets of the workers, with a way out to S3."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.private_subnet_ids) >= 1
    error_message = "private_subnet_ids is empty: name the network module's private subnets."
  }
}

variable "release_label" {
  description = "EMR release, which decides the version of Spark."
  type        = string
  default     = "emr-7.9.0"
  nullable    = false

  validation {
    condition     = can(regex("^emr-[67]\\.[0-9]+\\.[0-9]+$", var.release_label))
    error_message = "release_label must name a release of EMR 6 or 7, such as emr-7.9.0."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
  nullable    = false
}
