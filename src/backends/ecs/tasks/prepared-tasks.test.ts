import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { ECSClient, RunTaskCommandInput } from "@aws-sdk/client-ecs";
import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { AwsService } from "../aws/clients.ts";
import { ecsPreparedTasks } from "./prepared-tasks.ts";
import type { Definition } from "../definitions/definition.ts";
import { type RunSettings, runRequest } from "./run-request.ts";
import { viewOf } from "./task-view.ts";

const settings: RunSettings = {
  cluster: "c",
  subnets: ["subnet-1"],
  assignPublicIp: false,
  capacityProvider: "FARGATE",
  spotFallback: false,
  platformVersion: "LATEST",
  taskRoleArn: undefined,
  instance: "sockerless/0",
  authorityPin: new Uint8Array(32),
  startTimeoutMs: 300_000,
  callbackUrl: "wss://backend.example",
  callToken: (id, generation) => `${generation}.of-${id}`,
};
const requestOf = (
  id: string,
  stopSignal = "",
  groups: readonly string[] = ["sg-1"],
  logSize = "",
): string => {
  const logConfig =
    logSize === "" ? {} : { logConfig: { type: "json-file", config: { "max-size": logSize } } };
  const record = create(ContainerRecordSchema, { id, config: { stopSignal }, hostConfig: logConfig });
  return JSON.stringify(runRequest(record, "arn:definition", groups, settings));
};
const tasks = ecsPreparedTasks({
  ecs: undefined as unknown as AwsService<ECSClient>,
  definitions: { contentOf: (arn) => definitions.get(arn) },
  hasGroups: true,
});
const definition = (main: object): Definition => ({
  family: "f",
  containerDefinitions: [{ name: "main", image: "node@sha256:1", ...main }],
});
const definitions = new Map([
  ["arn:definition", definition({})],
  ["arn:limited", definition({ ulimits: [{ name: "nofile", softLimit: 1, hardLimit: 1 }] })],
  ["arn:other", definition({ image: "node@sha256:2", readonlyRootFilesystem: true })],
]);
const preparation = { name: "e".repeat(64), shape: "s", waitMs: 1_500, callToken: "0.own" };

describe("the shape of a request", () => {
  it("is that of other containers, whatever their agents are told with their starts", () => {
    assert.equal(tasks.shapeOf(requestOf("a")), tasks.shapeOf(requestOf("b", "SIGQUIT")));
  });

  it("is another one with other security groups, or other limits of the log", () => {
    assert.notEqual(tasks.shapeOf(requestOf("a")), tasks.shapeOf(requestOf("a", "", ["sg-2"])));
    assert.notEqual(tasks.shapeOf(requestOf("a")), tasks.shapeOf(requestOf("a", "", ["sg-1"], "1m")));
  });

  it("is compared part by part, by the names that the documents have for them", () => {
    const of = (change: object): string => JSON.stringify({ ...JSON.parse(requestOf("a")), ...change });
    const from = (request: string): readonly string[] => tasks.differences(request, requestOf("b"));
    assert.deepEqual(from(requestOf("a", "", ["sg-2"], "1m")), ["networks", "--log-opt"]);
    assert.deepEqual(from(of({ taskDefinition: "arn:limited" })), ["--ulimit"]);
    assert.deepEqual(from(of({ taskDefinition: "arn:other" })), ["the image", "--read-only"]);
    assert.deepEqual(from(of({ taskDefinition: "arn:forgotten" })), ["its task definition"]);
    assert.deepEqual(from(of({ platformVersion: "1.3.0" })), ["roles, capacity or platform version"]);
  });

  it("is that of the task that is prepared by it", () => {
    const request = requestOf("a");
    const { overrides } = JSON.parse(tasks.prepare(request, preparation)) as RunTaskCommandInput;
    const own = { ...(JSON.parse(request) as RunTaskCommandInput), overrides };
    assert.notEqual(JSON.stringify(own), request);
    const told = JSON.stringify(overrides);
    assert.match(told, /"SOCKERLESS_PREPARED","value":"s"/);
    assert.match(told, /"SOCKERLESS_START_TIMEOUT","value":"2s"/);
    assert.deepEqual(told.match(/"SOCKERLESS_CALLBACK_TOKEN","value":"[^"]*"/g), [
      '"SOCKERLESS_CALLBACK_TOKEN","value":"0.own"',
    ]);
    assert.doesNotMatch(told, /"a"|SOCKERLESS_GENERATION/);
  });
});

describe("a prepared task as AWS tells of it", () => {
  const { overrides } = JSON.parse(tasks.prepare(requestOf("a"), preparation)) as RunTaskCommandInput;

  it("is no container's, until its tags say whose it is", () => {
    const waiting = viewOf({ overrides });
    assert.equal(waiting.containerId, "");
    assert.deepEqual(waiting.prepared, { name: preparation.name, shape: "s" });
    const tags = [
      { key: "SOCKERLESS_CONTAINER_ID", value: "c" },
      { key: "SOCKERLESS_GENERATION", value: "7" },
    ];
    const claimed = viewOf({ overrides, tags });
    assert.deepEqual([claimed.containerId, claimed.generation], ["c", 7n]);
  });

  it("is not made of any other by tags", () => {
    const other = (JSON.parse(requestOf("a")) as RunTaskCommandInput).overrides;
    const tags = [{ key: "SOCKERLESS_CONTAINER_ID", value: "c" }];
    assert.equal(viewOf({ overrides: other, tags }).containerId, "a");
  });
});
