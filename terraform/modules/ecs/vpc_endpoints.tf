resource "aws_vpc_endpoint" "s3" {
  count = var.enable_vpc_endpoints ? 1 : 0

  route_table_ids   = local.private_route_table_ids
  service_name      = "com.amazonaws.${local.region}.s3" # where ECR keeps the layers
  tags              = merge(local.tags, { Name = "${var.name}-s3" })
  vpc_endpoint_type = "Gateway"
  vpc_id            = local.vpc_id

  lifecycle {
    precondition {
      condition     = length(local.private_route_table_ids) > 0
      error_message = "VPC endpoints in an existing VPC need private_route_table_ids: image layers come from S3."
    }
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.enable_vpc_endpoints ? toset(var.vpc_endpoint_services) : []

  private_dns_enabled = true
  security_group_ids  = aws_security_group.endpoints[*].id
  service_name        = "${local.partition == "aws-cn" && contains(local.china_endpoint_services, each.value) ? "cn." : ""}com.amazonaws.${local.region}.${each.value}"
  subnet_ids          = local.private_subnet_ids
  tags                = merge(local.tags, { Name = "${var.name}-${each.value}" })
  vpc_endpoint_type   = "Interface"
  vpc_id              = local.vpc_id
}

resource "aws_security_group" "endpoints" {
  count = var.enable_vpc_endpoints ? 1 : 0

  description = "VPC endpoints of sockerless ${var.name}"
  name        = "${var.name}-endpoints"
  tags        = merge(local.tags, { Name = "${var.name}-endpoints" })
  vpc_id      = local.vpc_id
}

# By address and not by group: each user-defined Docker network has a security group that the backend makes later.
resource "aws_vpc_security_group_ingress_rule" "endpoints_from_vpc" {
  count = var.enable_vpc_endpoints ? 1 : 0

  cidr_ipv4         = local.vpc_cidr
  description       = "HTTPS from the VPC"
  from_port         = 443
  ip_protocol       = "tcp"
  security_group_id = aws_security_group.endpoints[count.index].id
  tags              = merge(local.tags, { Name = "${var.name}-endpoints-from-vpc" })
  to_port           = 443
}
