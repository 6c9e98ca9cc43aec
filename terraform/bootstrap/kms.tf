data "aws_iam_policy_document" "key" {
  statement {
    sid     = "AccountDecides"
    actions = ["kms:*"]
    # In a key policy "*" is the key itself.
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account_id}:root"]
    }
  }
}

resource "aws_kms_key" "this" {
  description             = "State of Terraform and container images of ${local.name}"
  deletion_window_in_days = 30
  enable_key_rotation     = true
  policy                  = data.aws_iam_policy_document.key.json

  # Without this key no state file and no image can be read again.
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "this" {
  name          = "alias/${local.name}-bootstrap"
  target_key_id = aws_kms_key.this.key_id
}
