package main

import (
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

const awsAccount = "123456789012"

var aws = cloud{
	computed: map[string]string{
		"aws_cloudwatch_log_group.id":                                "{name}",
		"aws_cloudwatch_log_group.arn":                               arn("logs", "log-group:{name}"),
		"aws_ecr_lifecycle_policy.id":                                "{repository}",
		"aws_ecr_repository.id":                                      "{name}",
		"aws_ecr_repository.arn":                                     arn("ecr", "repository/{name}"),
		"aws_ecr_repository.repository_url":                          awsAccount + ".dkr.ecr.{region}.amazonaws.com/{name}",
		"aws_ecs_cluster.id":                                         "{arn}",
		"aws_ecs_cluster.arn":                                        arn("ecs", "cluster/{name}"),
		"aws_ecs_cluster_capacity_providers.id":                      "{cluster_name}",
		"aws_ecs_service.id":                                         arn("ecs", "service/{name}"),
		"aws_ecs_task_definition.id":                                 "{family}",
		"aws_ecs_task_definition.arn":                                arn("ecs", "task-definition/{family}:1"),
		"aws_ecs_task_definition.arn_without_revision":               arn("ecs", "task-definition/{family}"),
		"aws_efs_access_point.id":                                    "fsap-{random}",
		"aws_efs_access_point.arn":                                   arn("elasticfilesystem", "access-point/{id}"),
		"aws_efs_file_system.id":                                     "fs-{random}",
		"aws_efs_file_system.arn":                                    arn("elasticfilesystem", "file-system/{id}"),
		"aws_efs_file_system.dns_name":                               "{id}.efs.{region}.amazonaws.com",
		"aws_efs_mount_target.id":                                    "fsmt-{random}",
		"aws_efs_mount_target.ip_address":                            "10.0.0.10",
		"aws_eip.id":                                                 "eipalloc-{random}",
		"aws_eip.allocation_id":                                      "{id}",
		"aws_eip.public_ip":                                          "198.51.100.7",
		"aws_iam_role.id":                                            "{name}",
		"aws_iam_role.arn":                                           "arn:aws:iam::" + awsAccount + ":role/{name}",
		"aws_iam_role_policy.id":                                     "{role}:{name}",
		"aws_iam_role_policy_attachment.id":                          "{role}-{random}",
		"aws_internet_gateway.id":                                    "igw-{random}",
		"aws_lb.id":                                                  "{arn}",
		"aws_lb.arn":                                                 arn("elasticloadbalancing", "loadbalancer/net/{name}/{random}"),
		"aws_lb.dns_name":                                            "{name}.elb.{region}.amazonaws.com",
		"aws_lb_listener.id":                                         "{arn}",
		"aws_lb_listener.arn":                                        arn("elasticloadbalancing", "listener/net/{random}"),
		"aws_lb_target_group.id":                                     "{arn}",
		"aws_lb_target_group.arn":                                    arn("elasticloadbalancing", "targetgroup/{name}/{random}"),
		"aws_nat_gateway.id":                                         "nat-{random}",
		"aws_route.id":                                               "r-{route_table_id}",
		"aws_route_table.id":                                         "rtb-{random}",
		"aws_route_table_association.id":                             "rtbassoc-{random}",
		"aws_security_group.id":                                      "sg-{random}",
		"aws_security_group.arn":                                     arn("ec2", "security-group/{id}"),
		"aws_service_discovery_private_dns_namespace.id":             "ns-{random}",
		"aws_service_discovery_private_dns_namespace.arn":            arn("servicediscovery", "namespace/{id}"),
		"aws_service_discovery_private_dns_namespace.hosted_zone":    "Z{random}",
		"aws_service_discovery_service.id":                           "srv-{random}",
		"aws_service_discovery_service.arn":                          arn("servicediscovery", "service/{id}"),
		"aws_subnet.id":                                              "subnet-{random}",
		"aws_subnet.arn":                                             arn("ec2", "subnet/{id}"),
		"aws_vpc.id":                                                 "vpc-{random}",
		"aws_vpc.arn":                                                arn("ec2", "vpc/{id}"),
		"aws_vpc_endpoint.id":                                        "vpce-{random}",
		"aws_vpc_security_group_egress_rule.id":                      "sgr-{random}",
		"aws_vpc_security_group_egress_rule.security_group_rule_id":  "{id}",
		"aws_vpc_security_group_ingress_rule.id":                     "sgr-{random}",
		"aws_vpc_security_group_ingress_rule.security_group_rule_id": "{id}",
	},
	dataSources: map[string]dataSource{
		"aws_availability_zones": func(region string, _ tftypes.Value) (map[string]tftypes.Value, error) {
			zones := []string{region + "a", region + "b", region + "c", region + "d"}
			groups := tftypes.NewValue(tftypes.Set{ElementType: tftypes.String}, []tftypes.Value{text(region)})
			return map[string]tftypes.Value{
				"id": text(region), "names": texts(zones...), "zone_ids": texts(zones...), "group_names": groups,
			}, nil
		},
		"aws_caller_identity": func(string, tftypes.Value) (map[string]tftypes.Value, error) {
			return map[string]tftypes.Value{
				"id":         text(awsAccount),
				"account_id": text(awsAccount),
				"arn":        text("arn:aws:iam::" + awsAccount + ":user/test"),
				"user_id":    text("AIDATEST"),
			}, nil
		},
		"aws_iam_policy_document": renderPolicyDocument,
		"aws_partition": func(region string, _ tftypes.Value) (map[string]tftypes.Value, error) {
			partition, suffix, prefix := "aws", "amazonaws.com", "com.amazonaws"
			switch {
			case strings.HasPrefix(region, "cn-"):
				partition, suffix, prefix = "aws-cn", "amazonaws.com.cn", "cn.com.amazonaws"
			case strings.HasPrefix(region, "us-gov-"):
				partition = "aws-us-gov"
			}
			return map[string]tftypes.Value{
				"id":                 text(partition),
				"partition":          text(partition),
				"dns_suffix":         text(suffix),
				"reverse_dns_prefix": text(prefix),
			}, nil
		},
		"aws_region": func(region string, _ tftypes.Value) (map[string]tftypes.Value, error) {
			return map[string]tftypes.Value{
				"id":          text(region),
				"name":        text(region),
				"description": text("The region of the test"),
				"endpoint":    text("ec2." + region + ".amazonaws.com"),
			}, nil
		},
		"aws_vpc": existingVPC,
	},
}

// existingVPC finds every VPC by its ID.
func existingVPC(region string, config tftypes.Value) (map[string]tftypes.Value, error) {
	var values map[string]tftypes.Value
	if err := config.As(&values); err != nil {
		return nil, err
	}
	id, err := textOf(values["id"])
	if err != nil {
		return nil, fmt.Errorf("aws_vpc is only found by its ID: %w", err)
	}
	yes := tftypes.NewValue(tftypes.Bool, true)
	return map[string]tftypes.Value{
		"arn":                text("arn:aws:ec2:" + region + ":" + awsAccount + ":vpc/" + id),
		"cidr_block":         text("10.20.0.0/16"),
		"owner_id":           text(awsAccount),
		"enable_dns_support": yes, "enable_dns_hostnames": yes,
	}, nil
}

func arn(service, resource string) string {
	return "arn:aws:" + service + ":{region}:" + awsAccount + ":" + resource
}
