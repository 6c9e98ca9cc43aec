variable "environment" {
  description = "Name of the environment, such as dev; null for what all environments share."
  type        = string
  default     = null
}

# Rights are given to "<name>-*". With one hyphen in every name no platform's pattern is the beginning of another's name.
variable "name" {
  description = "What all names of the platform begin with, such as ml-platform."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*-[a-z0-9]+$", var.name))
    error_message = "name in terraform/platform.yaml must be two words of lower-case letters and digits with one hyphen between them, such as acme-ml: rights are given to <name>-*, and so no platform's rights reach another's resources."
  }

  validation {
    condition     = length(var.name) <= 14
    error_message = "name in terraform/platform.yaml must have at most 14 characters: <name>-staging-<dataset>, the name of an endpoint, has 63 then with a dataset's name of 40, and SageMaker takes no more. Shorten it."
  }
}

variable "region" {
  description = "Region of the platform."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.region) <= 15
    error_message = "region must have at most 15 characters, as the longest of AWS has: write it like us-east-1."
  }
}

variable "region_in_names" {
  description = "Whether the names that an account has once for all regions carry the region; false only for a platform that was made without."
  type        = bool
  nullable    = false
}
