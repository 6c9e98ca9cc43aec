# The logs bucket is encrypted with SSE-S3, not with the environment's key: neither S3's access logs nor a load
# balancer's can be delivered to a bucket whose default encryption is a KMS key; they would be lost in silence.
locals {
  log_deliveries = {
    AccessLogsOfBuckets = {
      service  = "logging.s3.amazonaws.com"
      resource = "${local.bucket_arns["logs"]}/s3/*"
      sources  = [for purpose in local.logged_buckets : local.bucket_arns[purpose]]
    }
    # Elastic Load Balancing documents no source condition here, and one it does not send would stop its logs. The
    # path does the same: the service writes each account's logs under that account's number. Any prefix may stand
    # before it.
    AccessLogsOfLoadBalancers = {
      service  = "logdelivery.elasticloadbalancing.amazonaws.com"
      resource = "${local.bucket_arns["logs"]}/*/AWSLogs/${local.account_id}/*"
      sources  = []
    }
  }

  # Without the logs bucket itself: each log it gets would make another.
  logged_buckets = [for purpose in keys(local.buckets) : purpose if purpose != "logs"]
}

resource "aws_s3_bucket_logging" "this" {
  for_each = toset(local.logged_buckets)

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["logs"].id
  target_prefix = "s3/${each.key}/"

  # S3 checks that it may write there.
  depends_on = [aws_s3_bucket_policy.this]
}
