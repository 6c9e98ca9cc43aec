output "airflow_environment" {
  description = "Name of the MWAA environment."
  value       = module.airflow.environment_name
}

output "airflow_url" {
  description = "Address of Airflow's page."
  value       = "https://${module.airflow.webserver_url}"
}

output "bastion_instance_id" {
  description = "ID of the bastion that `make open` goes through; null where there is none."
  value       = one(module.bastion[*].instance_id)
}

output "buckets" {
  description = "Names of the buckets by purpose."
  value       = { for purpose, bucket in module.storage.buckets : purpose => bucket.name }
}

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = module.cluster.cluster_name
}

output "endpoint_names" {
  description = "Names of the endpoints that stand at rest, by dataset."
  value       = module.serving.endpoint_names
}

output "final_snapshot_identifier" {
  description = "Name of the snapshot the database leaves when it is destroyed with its data kept."
  value       = module.mlflow.final_snapshot_identifier
}

output "mlflow_migration" {
  description = "What the migration of MLflow's database runs as, and where."
  value = {
    cluster             = module.mlflow.cluster_name
    service             = module.mlflow.service_name
    task_definition_arn = module.mlflow.migration_task_definition_arn
    subnet_ids          = module.network.private_subnet_ids
    security_group_id   = module.mlflow.service_security_group_id
  }
}

output "mlflow_tracking_uri" {
  description = "Address of MLflow inside the network."
  value       = module.mlflow.tracking_uri
}

output "name" {
  description = "What the names of all resources begin with."
  value       = local.name
}
