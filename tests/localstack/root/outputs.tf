output "buckets" {
  description = "The buckets, by purpose."
  value       = { for purpose, bucket in module.storage.buckets : purpose => bucket.name }
}

output "kms_key_arn" {
  description = "The environment's key."
  value       = module.storage.kms_key_arn
}

output "landing_queue_arn" {
  description = "Queue of announced files."
  value       = module.storage.landing_queue_arn
}

output "landing_queue_url" {
  description = "Queue of announced files."
  value       = module.storage.landing_queue_url
}

output "landing_dead_letter_queue_arn" {
  description = "Queue of announcements that could not be handled."
  value       = module.storage.landing_dead_letter_queue_arn
}

output "topics" {
  description = "The topics, by purpose."
  value = {
    alarms        = module.observability.alarms_topic_arn
    notifications = module.observability.notifications_topic_arn
  }
}

output "alarm_names" {
  description = "All alarms."
  value       = module.observability.alarm_names
}

output "network" {
  description = "The network."
  value = {
    vpc_id             = module.network.vpc_id
    private_subnet_ids = module.network.private_subnet_ids
    public_subnet_ids  = module.network.public_subnet_ids
    flow_log_group     = module.network.flow_log_group_name
  }
}
