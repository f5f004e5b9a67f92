resource "aws_cloudwatch_log_group" "containers" {
  kms_key_id        = var.log_kms_key_arn
  name              = local.log_group_name
  retention_in_days = var.log_retention_days
  tags              = merge(local.tags, { Name = local.log_group_name })
}
