# Most names are a region's own. Those of buckets are the world's, and those of roles, policies, dashboards and budgets
# the account's: they carry the region.
locals {
  name          = join("-", compact([var.name, var.environment]))
  region_suffix = var.region_in_names ? "-${var.region}" : ""
}
