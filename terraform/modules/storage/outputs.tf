# Whoever writes into a bucket waits until it is what it should be: an object that comes before versioning has no
# version, and one that comes before the default encryption keeps another key.
output "buckets" {
  description = "Name and ARN of each bucket: landing, data, artifacts, dags and logs."
  value = {
    for purpose, bucket in aws_s3_bucket.this : purpose => {
      name = bucket.bucket
      arn  = local.bucket_arns[purpose]
    }
  }

  depends_on = [
    aws_s3_bucket_ownership_controls.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_public_access_block.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
    aws_s3_bucket_versioning.this,
  ]
}

output "kms_key_arn" {
  description = "ARN of the environment's key."
  value       = aws_kms_key.this.arn
}

output "kms_key_id" {
  description = "Id of the environment's key."
  value       = aws_kms_key.this.key_id
}

output "landing_dead_letter_queue_arn" {
  description = "ARN of the queue of announcements that could not be handled."
  value       = local.queue_arns["landing_dead_letter"]

  depends_on = [aws_sqs_queue.landing_dead_letter]
}

output "landing_dead_letter_queue_name" {
  description = "Name of the queue of announcements that could not be handled."
  value       = aws_sqs_queue.landing_dead_letter.name
}

output "landing_queue_arn" {
  description = "ARN of the queue that announces files in the landing bucket."
  value       = local.queue_arns["landing"]

  depends_on = [aws_sqs_queue.landing]
}

output "landing_queue_url" {
  description = "URL of the queue that announces files in the landing bucket."
  value       = aws_sqs_queue.landing.url
}
