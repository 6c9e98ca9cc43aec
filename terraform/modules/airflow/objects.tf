# The DAG bucket's keys that Terraform owns. `push-dags` owns all others under dags/.

locals {
  requirements_digest = filesha256("${var.dags_path}/requirements.txt")
}

resource "aws_s3_object" "requirements" {
  bucket       = var.dags_bucket.name
  key          = "requirements/requirements.txt"
  source       = "${var.dags_path}/requirements.txt"
  source_hash  = filemd5("${var.dags_path}/requirements.txt") # an ETag is no MD5 where KMS encrypts
  content_type = "text/plain"
  kms_key_id   = var.kms_key_arn
}

# The wheels of all that requirements.txt names: a private web server reaches no package index. `make apply` makes the
# archive from the file whose digest is in its name, so planning takes the file alone.
resource "aws_s3_object" "plugins" {
  bucket       = var.dags_bucket.name
  key          = "plugins/plugins.zip"
  source       = "${var.wheels_path}/plugins-${substr(local.requirements_digest, 0, 16)}.zip"
  source_hash  = local.requirements_digest
  content_type = "application/zip"
  kms_key_id   = var.kms_key_arn

  # By which `push-dags` knows what it was made of.
  metadata = { requirements = local.requirements_digest }
}

resource "aws_s3_object" "startup" {
  bucket       = var.dags_bucket.name
  key          = "startup/startup.sh"
  source       = "${var.dags_path}/startup.sh"
  source_hash  = filemd5("${var.dags_path}/startup.sh")
  content_type = "text/x-shellscript"
  kms_key_id   = var.kms_key_arn
}

# Under dags/, because requirements.txt names it where MWAA puts it: /usr/local/airflow/dags/constraints.txt.
resource "aws_s3_object" "constraints" {
  bucket       = var.dags_bucket.name
  key          = "dags/constraints.txt"
  source       = "${var.dags_path}/constraints.txt"
  source_hash  = filemd5("${var.dags_path}/constraints.txt")
  content_type = "text/plain"
  kms_key_id   = var.kms_key_arn
}

# What the DAGs cannot know: names, ARNs, addresses. Its schema is dags/mlplatform/config/environment.py.
resource "aws_s3_object" "platform" {
  bucket       = var.dags_bucket.name
  key          = "dags/platform.json"
  content      = jsonencode(var.platform)
  content_type = "application/json"
  kms_key_id   = var.kms_key_arn
}

# No secret in it: a token is made from the caller's own AWS credentials, each time one is needed.
resource "aws_s3_object" "kubeconfig" {
  bucket = var.dags_bucket.name
  key    = "dags/kubeconfig"
  content = templatefile("${path.module}/templates/kubeconfig.yaml.tftpl", {
    cluster = var.cluster
    region  = local.region
  })
  content_type = "application/yaml"
  kms_key_id   = var.kms_key_arn
}
