# What the tasks of the DAGs may do, statement by statement: a right more, or a wider one, fails here.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-west-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/ml-platform-test-airflow" }
  }
}

variables {
  name               = "ml-platform-test"
  vpc_id             = "vpc-1"
  private_subnet_ids = ["subnet-a", "subnet-b"]
  kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  topic_arn          = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications"
  dags_path          = "../../../dags"
  wheels_path        = "wheels"
  dags_bucket        = { name = "ml-platform-test-dags", arn = "arn:aws:s3:::ml-platform-test-dags" }
  buckets = {
    landing   = { name = "landing", arn = "arn:aws:s3:::landing" }
    data      = { name = "data", arn = "arn:aws:s3:::data" }
    artifacts = { name = "artifacts", arn = "arn:aws:s3:::artifacts" }
  }
  cluster = {
    name                  = "ml-platform-test"
    arn                   = "arn:aws:eks:eu-west-1:123456789012:cluster/ml-platform-test"
    endpoint              = "https://cluster.example"
    certificate_authority = "Y2VydGlmaWNhdGU="
  }
  platform = {
    environment   = "dev"
    git_sha       = "0123456"
    aws           = { region = "eu-west-1", account_id = "123456789012" }
    buckets       = { landing = "landing", data = "data", artifacts = "artifacts" }
    kubernetes    = { kubeconfig = "kubeconfig", context = "ml-platform-test" }
    images        = { trainer = "trainer@sha256:1", trainer_cuda = "trainer-cuda@sha256:4", deployer = "deployer@sha256:2", serving = "serving@sha256:3" }
    mlflow        = { tracking_uri = "https://mlflow.example" }
    serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "ml-platform-test-{dataset}" }
    notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications" }
  }
}

run "tasks" {
  command = plan

  # What dags/mlplatform calls: landing, runs (approval's answers are there), deployments, audit, monitoring.
  assert {
    condition = {
      for statement in data.aws_iam_policy_document.tasks.statement :
      "${coalesce(statement.effect, "Allow")} ${statement.sid}" => join(" ", sort(statement.actions))
      } == {
      "Allow List"             = "s3:ListBucket"
      "Allow TakeFromLanding"  = "s3:DeleteObject s3:GetObject s3:GetObjectTagging s3:GetObjectVersion s3:GetObjectVersionTagging"
      "Deny LeaveLabelsAlone"  = "s3:DeleteObject s3:GetObject s3:GetObjectVersion"
      "Allow PutAway"          = "s3:AbortMultipartUpload s3:PutObject s3:PutObjectTagging"
      "Allow Accepted"         = "s3:GetObject"
      "Allow Runs"             = "s3:GetObject s3:PutObject"
      "Deny FirstAnswerHolds"  = "s3:PutObject"
      "Allow Deployments"      = "s3:GetObject s3:PutObject"
      "Allow AnotherAttempt"   = "s3:DeleteObject"
      "Allow Monitoring"       = "s3:GetObject s3:PutObject"
      "Allow ReadAuditLog"     = "s3:GetObject"
      "Allow AppendToAuditLog" = "s3:PutObject"
      "Allow TellPeople"       = "sns:Publish"
    }
    error_message = "The tasks may do something else than what they call."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.tasks.statement :
      statement.sid => join(" ", sort(statement.resources))
      } == {
      List             = "arn:aws:s3:::artifacts arn:aws:s3:::data arn:aws:s3:::landing"
      TakeFromLanding  = "arn:aws:s3:::landing/*"
      LeaveLabelsAlone = "arn:aws:s3:::landing/labels/*"
      PutAway          = "arn:aws:s3:::data/raw/* arn:aws:s3:::landing/quarantine/*"
      Accepted         = "arn:aws:s3:::data/raw/*"
      Runs             = "arn:aws:s3:::data/runs/*"
      FirstAnswerHolds = "arn:aws:s3:::data/runs/*/approval/*"
      Deployments      = "arn:aws:s3:::data/deployments/*"
      AnotherAttempt = join(" ", [
        "arn:aws:s3:::data/deployments/*/error.json", "arn:aws:s3:::data/deployments/_runs/*",
        "arn:aws:s3:::data/runs/*/evaluate/result.json", "arn:aws:s3:::data/runs/*/failures/*",
      ])
      Monitoring       = "arn:aws:s3:::data/monitoring/*"
      ReadAuditLog     = "arn:aws:s3:::artifacts/audit/*"
      AppendToAuditLog = "arn:aws:s3:::artifacts/audit/*"
      TellPeople       = var.topic_arn
    }
    error_message = "The tasks reach further than to their own documents."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.tasks.statement :
      statement.sid => one([for condition in statement.condition : "${condition.test} ${condition.variable} ${join(" ", condition.values)}"])
      if length(coalesce(statement.condition, [])) > 0
    } == { AppendToAuditLog = "Null s3:if-none-match false", FirstAnswerHolds = "Null s3:if-none-match true" }
    error_message = "An entry of the audit log, or the first answer to a question, could be written over."
  }

  # No deletion reaches the audit log, and nothing but the put above writes to it.
  assert {
    condition = [
      for statement in data.aws_iam_policy_document.tasks.statement : statement.sid
      if anytrue([for resource in statement.resources : strcontains(resource, ":::artifacts/")])
    ] == ["ReadAuditLog", "AppendToAuditLog"]
    error_message = "The tasks do nothing in the artifacts bucket but read the audit log and append to it."
  }
}
