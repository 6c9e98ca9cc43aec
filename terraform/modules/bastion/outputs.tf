output "forward_policy_arn" {
  description = "ARN of the policy that lets people forward ports through it; attach it to their roles."
  value       = aws_iam_policy.forward.arn
}

output "instance_id" {
  description = "ID of the instance."
  value       = aws_instance.this.id
}

output "security_group_id" {
  description = "ID of its security group; what people reach through it lets it in."
  value       = aws_security_group.this.id
}
