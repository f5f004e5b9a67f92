/** The services and operations that are simulated: what the extract of the service models holds. */

/** Operations by service, in botocore's names. */
export const simulatedOperations = {
  ecs: [
    "DeleteTaskDefinitions",
    "DeregisterTaskDefinition",
    "DescribeClusters",
    "DescribeTaskDefinition",
    "DescribeTasks",
    "ListTaskDefinitionFamilies",
    "ListTaskDefinitions",
    "ListTasks",
    "RegisterTaskDefinition",
    "RunTask",
    "StopTask",
  ],
  logs: ["DescribeLogGroups", "FilterLogEvents", "GetLogEvents"],
  efs: ["CreateAccessPoint", "DeleteAccessPoint", "DescribeAccessPoints", "DescribeMountTargets"],
  servicediscovery: [
    "CreateService",
    "DeleteService",
    "DeregisterInstance",
    "ListInstances",
    "ListServices",
    "RegisterInstance",
  ],
  ecr: ["BatchDeleteImage", "BatchGetImage", "CreateRepository", "GetAuthorizationToken", "ListImages"],
  ec2: [
    "AuthorizeSecurityGroupEgress",
    "AuthorizeSecurityGroupIngress",
    "CreateSecurityGroup",
    "DeleteSecurityGroup",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "RevokeSecurityGroupEgress",
    "RevokeSecurityGroupIngress",
  ],
  sts: ["GetCallerIdentity"],
  "service-quotas": ["GetServiceQuota"],
} as const;
