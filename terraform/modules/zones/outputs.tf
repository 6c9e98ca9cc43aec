output "availability_zones" {
  description = "Names of the zones, in the order in which the network grows."
  value       = local.availability_zones
}
