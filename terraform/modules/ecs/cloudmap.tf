# Container names for clients outside; between containers the agents answer for names themselves.
resource "aws_service_discovery_private_dns_namespace" "this" {
  description = "Containers of sockerless ${var.name}"
  name        = local.cloud_map_namespace_name
  tags        = merge(local.tags, { Name = local.cloud_map_namespace_name })
  vpc         = local.vpc_id
}
