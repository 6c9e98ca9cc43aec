data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  global_name = coalesce(var.global_name, var.name)
  account_id  = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  region      = data.aws_region.current.name
}

resource "aws_budgets_budget" "this" {
  name         = "${local.global_name}-monthly"
  budget_type  = "COST"
  limit_amount = format("%.2f", var.monthly_limit_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  # "user:" is the namespace of tags that are not AWS's own; the $ between key and value is not an interpolation.
  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:Project$%s", var.project), format("user:Environment$%s", var.environment)]
  }

  # The same platform in another region has the same tags.
  cost_filter {
    name   = "Region"
    values = [local.region]
  }

  cost_types {
    # What the platform uses, whatever discounts and credits pay for it this month.
    include_credit = false
    include_refund = false
    include_tax    = false
  }

  dynamic "notification" {
    for_each = concat(
      [for percentage in var.alert_percentages.actual : { type = "ACTUAL", percentage = percentage }],
      [for percentage in var.alert_percentages.forecast : { type = "FORECASTED", percentage = percentage }],
    )

    content {
      notification_type          = notification.value.type
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value.percentage
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.email_addresses
      subscriber_sns_topic_arns  = compact([var.alarms_topic_arn])
    }
  }
}

# A setting of the whole organisation, so no module of one environment owns it unless told to. AWS knows a tag here only
# a day after the first resource has it.
resource "aws_ce_cost_allocation_tag" "this" {
  for_each = var.activate_cost_allocation_tags ? toset(["CostCenter", "Environment", "Project", "dataset", "owner"]) : []

  tag_key = each.key
  status  = "Active"
}
