variable "availability_zones" {
  description = "Names of zones, in order, that are taken instead of chosen ones; null chooses."
  type        = list(string)
  default     = null
}

variable "instance_types" {
  description = "Instance types that nodes may have, by node group: of each group, a zone must have one."
  type        = map(list(string))
  nullable    = false
}

variable "interface_endpoints" {
  description = "AWS services that have a private endpoint in every zone, by short name."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "zones" {
  description = "How many zones are chosen: 2 or 3. It may grow later."
  type        = number
  nullable    = false

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "zones is how many zones, 2 or 3: Airflow, EKS and RDS need two, and the network's address plan has room for three. Their names, if they matter, go into availability_zones."
  }
}
