resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket        = local.bucket_names[each.key]
  force_destroy = !(each.value.kept && var.deletion_protection)

  # For the way back: where a bucket cannot be deleted because it holds something, its key must not be deleted either.
  depends_on = [aws_kms_key.this]
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    # One request to KMS for many objects; a bucket key means nothing without KMS.
    bucket_key_enabled = each.value.key

    apply_server_side_encryption_by_default {
      sse_algorithm     = each.value.key ? "aws:kms" : "AES256"
      kms_master_key_id = each.value.key ? aws_kms_key.this.arn : null
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

data "aws_iam_policy_document" "bucket" {
  for_each = local.buckets

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arns[each.key], "${local.bucket_arns[each.key]}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "ModernTlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.bucket_arns[each.key], "${local.bucket_arns[each.key]}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }

  # A key that the client brings along is one that nobody else could read the object with.
  statement {
    sid       = "NoKeysOfClients"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arns[each.key]}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:x-amz-server-side-encryption-customer-algorithm"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = { for sid, delivery in local.log_deliveries : sid => delivery if each.key == "logs" }

    content {
      sid       = statement.key
      actions   = ["s3:PutObject"]
      resources = [statement.value.resource]

      principals {
        type        = "Service"
        identifiers = [statement.value.service]
      }

      dynamic "condition" {
        for_each = length(statement.value.sources) == 0 ? [] : [statement.value.sources]

        content {
          test     = "ArnEquals"
          variable = "aws:SourceArn"
          values   = condition.value
        }
      }

      dynamic "condition" {
        for_each = length(statement.value.sources) == 0 ? [] : [local.account_id]

        content {
          test     = "StringEquals"
          variable = "aws:SourceAccount"
          values   = [condition.value]
        }
      }
    }
  }
}

# Apart from the rest, which can then be read in the plan: the key's ARN is known only once the key is there.
#
# A writer that asks for nothing gets the bucket's default, which is right. One that asks for encryption has to name
# this key: SSE-S3, another key, and KMS without a key (S3 would take the account's own) are refused. The second
# condition keeps a missing header from counting as "not equal"; the first does count a missing key, on purpose.
data "aws_iam_policy_document" "bucket_with_key" {
  for_each = { for purpose, bucket in local.buckets : purpose => bucket if bucket.key }

  source_policy_documents = [data.aws_iam_policy_document.bucket[each.key].json]

  statement {
    sid       = "OurKeyOnly"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arns[each.key]}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "s3:x-amz-server-side-encryption-aws-kms-key-id"
      values   = [aws_kms_key.this.arn]
    }

    condition {
      test     = "Null"
      variable = "s3:x-amz-server-side-encryption"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  policy = (
    each.value.key ?
    data.aws_iam_policy_document.bucket_with_key[each.key].json :
    data.aws_iam_policy_document.bucket[each.key].json
  )

  # S3 refuses two changes of a bucket's access at the same moment.
  depends_on = [aws_s3_bucket_public_access_block.this]
}
