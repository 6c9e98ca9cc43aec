output "global_name" {
  description = "What names begin with that an account has once for all regions: of roles, policies, dashboards and budgets."
  value       = "${local.name}${local.region_suffix}"
}

output "name" {
  description = "What names begin with that each region has of its own."
  value       = local.name
}

output "region_suffix" {
  description = "What follows the account's number in the name of a bucket, with its hyphen; nothing without region_in_names."
  value       = local.region_suffix
}
