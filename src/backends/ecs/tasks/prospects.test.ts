import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Task } from "@aws-sdk/client-ecs";

import type { Prospect } from "../../cloud/contract/start-prospect.ts";
import { refusal } from "../testing/fake-client.ts";
import { viewOf } from "./task-view.ts";

/** Refused calls in AWS's words, as its documentation, its forums and the tasks of others have them. */
const calls: readonly (readonly [prospect: Prospect, operation: string, code: string, words: string])[] = [
  [
    "room",
    "RunTask",
    "ClientException",
    "You've reached the limit on the number of vCPUs you can run concurrently",
  ],
  [
    "capacity",
    "RunTask",
    "ClientException",
    "Capacity is unavailable at this time. Please try again later or in a different availability zone",
  ],
  [
    "passes",
    "RegisterTaskDefinition",
    "ClientException",
    "Too many concurrent attempts to create a new revision of the specified family.",
  ],
  [
    "passes",
    "RunTask",
    "InvalidParameterException",
    "Error retrieving security group information for [sg-1]: The security group 'sg-1' does not exist (ErrorCode: InvalidGroup.NotFound)",
  ],
  ["passes", "AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound", "The security group 'sg-1' is not"],
  [
    "passes",
    "RunTask",
    "InvalidParameterException",
    "Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
  ],
  [
    "passes",
    "RunTask",
    "ClientException",
    "ECS was unable to assume the role 'arn:aws:iam::1:role/web' that was provided for this task.",
  ],
  ["passes", "RunTask", "ExpiredTokenException", "The security token included in the request is expired"],
  ["passes", "RunTask", "InvalidSignatureException", "The request signature we calculated does not match"],
  ["passes", "CreateSecurityGroup", "RequestLimitExceeded", "Request limit exceeded."],
  ["denied", "RegisterTaskDefinition", "AccessDeniedException", "is not authorized to perform: iam:PassRole"],
  [
    "denied",
    "AuthorizeSecurityGroupIngress",
    "UnauthorizedOperation",
    "You are not authorized to perform this operation.",
  ],
  ["lasts", "RunTask", "ClusterNotFoundException", "Cluster not found."],
  ["lasts", "RunTask", "InvalidParameterException", "No Fargate configuration exists for given values."],
  ["lasts", "CreateAccessPoint", "FileSystemNotFound", "File system 'fs-1' does not exist."],
  ["lasts", "CreateSecurityGroup", "SecurityGroupLimitExceeded", "The maximum number has been reached."],
];

/** Reasons for ends of tasks that did not get to run. */
const ends: readonly (readonly [prospect: Prospect, reason: string, stopCode?: Task["stopCode"]])[] = [
  [
    "room",
    "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': InsufficientFreeAddressesInSubnet",
  ],
  ["capacity", "Capacity is unavailable at this time. Please try again later"],
  ["passes", "InternalError: failed to create container model"],
  ["passes", "Task stopped because its host failed"],
  ["passes", "Your Spot Task was interrupted.", "SpotInterruption"],
  ["passes", "ECS is performing maintenance on the underlying infrastructure", "TerminationNotice"],
  ["passes", "Timeout waiting for network interface provisioning to complete.; The task failed to start"],
  ["passes", "Timeout waiting for EphemeralStorage provisioning to complete."],
  [
    "passes",
    "Unexpected EC2 error while attempting to Create Network Interface with public IP assignment disabled in subnet 'subnet-1': Rate exceeded",
  ],
  [
    "passes",
    "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: Connection timed out' : unsuccessful EFS utils command execution; code: 32",
  ],
  [
    "passes",
    'ResourceInitializationError: failed to invoke EFS utils commands: stderr: Failed to resolve "fs-1.efs.eu-west-1.amazonaws.com" - the mount target is not ready',
  ],
  [
    "passes",
    'CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref: Head "https://registry-1.docker.io/v2/": dial tcp 44.208.254.194:443: i/o timeout',
  ],
  [
    "passes",
    "CannotPullContainerError: pull image manifest has been retried 5 time(s): toomanyrequests: You have reached your unauthenticated pull rate limit.",
  ],
  [
    "passes",
    "CannotPullContainerError: pull image manifest has been retried 5 time(s): unexpected status from HEAD request: 503 Service Unavailable",
  ],
  [
    "passes",
    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: RequestCanceled: request context canceled : exit status 1",
  ],
  ["passes", "words that nobody has seen yet"],
  [
    "lasts",
    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref docker.io/library/nope:1: docker.io/library/nope:1: not found",
  ],
  [
    "lasts",
    "CannotPullContainerError: inspect image has been retried 1 time(s): failed to fetch anonymous token: manifest unknown: Requested image not found",
  ],
  [
    "lasts",
    "CannotPullContainerError: pull image manifest has been retried 1 time(s): image Manifest does not contain descriptor matching platform 'linux/arm64'",
  ],
  [
    "lasts",
    "CannotPullContainerError: pull access denied, repository does not exist or may require authorization",
  ],
  [
    "lasts",
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): AccessDeniedException: User is not authorized to perform: secretsmanager:GetSecretValue on resource: web",
  ],
  [
    "lasts",
    "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: access denied by server while mounting 127.0.0.1:/'",
  ],
  [
    "lasts",
    "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1",
  ],
  ["lasts", "stopped by hand", "UserInitiated"],
];

describe("a start on Fargate", () => {
  for (const [prospect, operation, code, words] of calls) {
    it(`has the prospect "${prospect}" after: ${operation}: ${code}: ${words.slice(0, 60)}`, () => {
      assert.equal(refusal("ecs", operation, code, words).prospect, prospect);
    });
  }

  for (const [prospect, stoppedReason, stopCode = "TaskFailedToStart"] of ends) {
    it(`has the prospect "${prospect}" after an end: ${stoppedReason.slice(0, 80)}`, () => {
      const containers = [{ name: "main" }, { name: "agent" }];
      assert.equal(viewOf({ stopCode, stoppedReason, containers }).prospect, prospect);
    });
  }

  it("is over with the agent's own exit, and not with one that AWS brought about", () => {
    const containers = [{ name: "main", exitCode: 143 }];
    const after = (stopCode: NonNullable<Task["stopCode"]>) => viewOf({ stopCode, containers }).prospect;
    assert.equal(after("EssentialContainerExited"), "lasts");
    assert.equal(after("SpotInterruption"), "passes");
  });
});
