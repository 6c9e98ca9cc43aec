output "airflow_environment" {
  description = "Name of the MWAA environment."
  value       = module.platform.airflow_environment
}

output "airflow_url" {
  description = "Address of Airflow's page."
  value       = module.platform.airflow_url
}

output "bastion_instance_id" {
  description = "ID of the bastion that `make open` goes through; null where there is none."
  value       = module.platform.bastion_instance_id
}

output "buckets" {
  description = "Names of the buckets by purpose."
  value       = module.platform.buckets
}

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = module.platform.cluster_name
}

output "dags_bucket" {
  description = "Bucket that holds the DAG bundle."
  value       = module.platform.buckets["dags"]
}

output "endpoint_names" {
  description = "Names of the endpoints that stand at rest, by dataset."
  value       = module.platform.endpoint_names
}

output "final_snapshot_identifier" {
  description = "Name of the snapshot the database leaves when it is destroyed with its data kept."
  value       = module.platform.final_snapshot_identifier
}

output "mlflow_migration" {
  description = "What the migration of MLflow's database runs as, and where."
  value       = module.platform.mlflow_migration
}

output "mlflow_tracking_uri" {
  description = "Address of MLflow inside the network."
  value       = module.platform.mlflow_tracking_uri
}

output "name" {
  description = "What the names of all resources begin with."
  value       = module.platform.name
}

output "region" {
  description = "Region of the environment."
  value       = var.region
}
