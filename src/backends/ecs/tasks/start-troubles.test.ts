import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { type SeenAt, troubleOf } from "../../common/cloud/start-troubles.ts";
import { startTroubles } from "./start-troubles.ts";

/** AWS's words, as its documentation, its forums and the tasks of others have them. */
const passing: readonly (readonly [row: string, seen: SeenAt, words: string])[] = [
  ["vcpu-quota", "call", "You've reached the limit on the number of vCPUs you can run concurrently"],
  [
    "no-interface",
    "end",
    "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': InsufficientFreeAddressesInSubnet",
  ],
  [
    "capacity",
    "call",
    "Capacity is unavailable at this time. Please try again later or in a different availability zone",
  ],
  [
    "capacity",
    "call",
    "ecs: RunTask: Capacity is unavailable at this time. Please try again later (ClientException)",
  ],
  [
    "capacity",
    "end",
    "Capacity is unavailable at this time. Please try again later or in a different availability zone",
  ],
  [
    "interface-timeout",
    "end",
    "Timeout waiting for network interface provisioning to complete.; The task failed to start",
  ],
  [
    "efs-timeout",
    "end",
    "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: Connection timed out' : unsuccessful EFS utils command execution; code: 32",
  ],
  [
    "efs-timeout",
    "end",
    "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: Mount attempt 1/3 failed due to timeout after 15 sec, wait 0 sec before next attempt.",
  ],
  [
    "pull-timeout",
    "end",
    'CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref: Head "https://registry-1.docker.io/v2/": dial tcp 44.208.254.194:443: i/o timeout',
  ],
  [
    "pull-timeout",
    "end",
    'ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve ecr registry auth: service call has been retried 3 time(s): RequestError: send request failed caused by: Post "https://api.ecr.eu-west-1.amazonaws.com/": dial tcp 10.0.0.9:443: i/o timeout',
  ],
  [
    "log-driver",
    "end",
    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: RequestCanceled: request context canceled caused by: context deadline exceeded : exit status 1",
  ],
  [
    "new-security-group",
    "call",
    "ecs: RunTask: Error retrieving security group information for [sg-1]: The security group 'sg-1' does not exist (ErrorCode: InvalidGroup.NotFound) (InvalidParameterException)",
  ],
  [
    "service-linked-role",
    "call",
    "ecs: RunTask: Unable to assume the service linked role. Please verify that the ECS service linked role exists. (InvalidParameterException)",
  ],
  [
    "access-denied",
    "call",
    "ecs: RegisterTaskDefinition: User: arn:aws:iam::1:user/ci is not authorized to perform: iam:PassRole (AccessDeniedException)",
  ],
  [
    "access-denied",
    "call",
    "ec2: AuthorizeSecurityGroupIngress: You are not authorized to perform this operation. (UnauthorizedOperation)",
  ],
  [
    "expired-token",
    "call",
    "ecs: RunTask: The security token included in the request is expired (ExpiredTokenException)",
  ],
];

const lasting: readonly (readonly [what: string, seen: SeenAt, words: string])[] = [
  [
    "an unknown image",
    "end",
    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref docker.io/library/nope:1: docker.io/library/nope:1: not found",
  ],
  [
    "an unknown manifest",
    "end",
    "CannotPullContainerError: inspect image has been retried 1 time(s): failed to fetch anonymous token: manifest unknown: Requested image not found",
  ],
  [
    "a registry's limit",
    "end",
    "CannotPullContainerError: pull image manifest has been retried 5 time(s): toomanyrequests: You have reached your unauthenticated pull rate limit.",
  ],
  ["an essential container's exit", "end", "Essential container in task exited"],
  [
    "a secret that may not be read",
    "end",
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): AccessDeniedException: User is not authorized to perform: secretsmanager:GetSecretValue on resource: web because no identity-based policy allows it",
  ],
  [
    "a file system that lets nobody in",
    "end",
    "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: access denied by server while mounting 127.0.0.1:/'",
  ],
  [
    "a log group that does not exist",
    "end",
    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1",
  ],
  [
    "a role that may not be passed on",
    "call",
    "ecs: RunTask: ECS was unable to assume the role 'arn:aws:iam::1:role/web' that was provided for this task. (ClientException)",
  ],
  ["an unknown cluster", "call", "ecs: RunTask: Cluster not found. (ClusterNotFoundException)"],
  ["memory that ran out", "end", "OutOfMemoryError: Container killed due to memory usage"],
];

describe("a start on Fargate", () => {
  for (const [row, seen, words] of passing) {
    it(`is tried again, as ${row} says, after: ${words.slice(0, 70)}`, () => {
      assert.equal(troubleOf(startTroubles, seen, words)?.name, row);
    });
  }

  for (const [what, seen, words] of lasting) {
    it(`fails at once for ${what}`, () => {
      assert.equal(troubleOf(startTroubles, seen, words), undefined);
    });
  }

  it("has a test for each row", () => {
    assert.deepEqual(new Set(startTroubles.map(({ name }) => name)), new Set(passing.map(([row]) => row)));
  });
});
