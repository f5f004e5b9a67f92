/** Every request of a session on the simulated AWS, held against the service models by a judge of its own. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import { type JudgedRequest, judgeRequests } from "../support/botocore.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import {
  type RecordedRequest,
  type RecordingProxy,
  startRecordingProxy,
} from "../support/recording-proxy.ts";
import { testSession } from "./session.ts";

describe("the requests of a session", () => {
  let proxy: RecordingProxy;
  const ecs = duringTests((resources) =>
    EcsDaemon.start({
      ecs: async (aws) => {
        proxy = resources.use(await startRecordingProxy(aws.endpoint));
        return { endpoint: proxy.endpoint };
      },
    }),
  );

  testSession(() => ecs.daemon, true);

  it("are what the services' models take, in all four protocols", async () => {
    const judged = await judgeRequests(proxy.requests);
    assert.deepEqual(
      judged.filter(({ violations }) => violations.length > 0),
      [],
    );
    const seen = (of: "protocol" | "operation"): string[] =>
      [...new Set(judged.map((each) => each[of]))].sort();
    assert.deepEqual(seen("protocol"), ["ec2", "json", "query", "rest-json"]);
    assert.ok(seen("operation").length >= 25, `only ${seen("operation").join(", ")}`);
  });
});

describe("the judge of requests", () => {
  const by = (service: string): { readonly authorization: string } => ({
    authorization: `AWS4-HMAC-SHA256 Credential=A/20250101/eu-west-1/${service}/aws4_request, Signature=0`,
  });
  const base64 = (text: string): string => Buffer.from(text).toString("base64");
  const json = (service: string, target: string, input: object): RecordedRequest => ({
    method: "POST",
    target: "/",
    headers: { ...by(service), "x-amz-target": target },
    body: base64(JSON.stringify(input)),
  });
  const form = (service: string, body: string): RecordedRequest => ({
    method: "POST",
    target: "/",
    headers: by(service),
    body: base64(body),
  });
  const runTask = (input: object): RecordedRequest =>
    json("ecs", "AmazonEC2ContainerServiceV20141113.RunTask", input);
  const ec2 = (parameters: string): RecordedRequest =>
    form("ec2", `Action=CreateSecurityGroup&Version=2016-11-15&${parameters}`);
  const efs = (method: string, target: string, input: object): RecordedRequest => ({
    method,
    target: `/2015-02-01/${target}`,
    headers: by("elasticfilesystem"),
    body: base64(JSON.stringify(input)),
  });

  const cases: readonly (readonly [what: string, request: RecordedRequest, expected: RegExp])[] = [
    ["a member that is missing", runTask({}), /has no taskDefinition/],
    ["an unknown one", runTask({ taskDefinition: "a", colour: 1 }), /the unknown member colour/],
    ["another type", runTask({ taskDefinition: "a", count: "1" }), /count: is no integer/],
    ["no value of an enumeration", runTask({ taskDefinition: "a", launchType: "MOON" }), /'MOON' is none of/],
    [
      "a text of another pattern",
      json("logs", "Logs_20140328.DescribeLogGroups", { logGroupNamePrefix: "a b" }),
      /'a b' does not match/,
    ],
    [
      "too long a text",
      json("logs", "Logs_20140328.DescribeLogGroups", { logGroupNamePrefix: "a".repeat(513) }),
      /has characters: 513, not 1 to 512/,
    ],
    [
      "a number out of range",
      json("logs", "Logs_20140328.DescribeLogGroups", { limit: 51 }),
      /limit: is 51, not 1 to 50/,
    ],
    ["a member of a REST body", efs("POST", "access-points", { FileSystemId: "fs-1" }), /has no ClientToken/],
    ["a parameter of a REST path", efs("GET", "access-points?MaxResults=0", {}), /MaxResults: is 0/],
    ["a parameter of EC2", ec2("GroupName=a&GroupDescription=b&DryRun=perhaps"), /DryRun: is no boolean/],
    ["an unknown one of EC2", ec2("GroupName=a&GroupDescription=b&Colour=c"), /the unknown member Colour/],
    [
      "a list of EC2 with a gap",
      ec2("GroupName=a&GroupDescription=b&TagSpecification.2.ResourceType=security-group"),
      /is not counted from 1/,
    ],
    [
      "an unknown one of the query protocol",
      form("sts", "Action=GetCallerIdentity&Version=2011-06-15&Colour=c"),
      /the unknown member Colour/,
    ],
  ];
  let judged: readonly JudgedRequest[];

  before(async () => {
    judged = await judgeRequests(cases.map(([, request]) => request));
  });
  for (const [index, [what, , expected]] of cases.entries()) {
    it(`tells ${what}`, () => {
      assert.match(judged[index]?.violations.join("\n") ?? "", expected);
    });
  }
});
