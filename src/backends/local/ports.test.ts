import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { publishedPorts } from "./ports.ts";

const ports = (record: MessageInitShape<typeof ContainerRecordSchema>) =>
  publishedPorts(create(ContainerRecordSchema, record), "172.17.0.2").map(
    ({ protocol, hostIp, hostPort, hostPortEnd, containerPort }) => [
      protocol,
      hostIp,
      hostPort,
      hostPortEnd,
      containerPort,
    ],
  );

test("a binding names host address, port or range, and protocol", () => {
  const portBindings = [
    { containerPort: "80/tcp", hostIp: "127.0.0.1", hostPort: "8080" },
    { containerPort: "53/udp", hostPort: "5300-5310" },
    { containerPort: "81/tcp" },
  ];
  assert.deepEqual(ports({ hostConfig: { portBindings } }), [
    ["tcp", "127.0.0.1", 8080, 0, 80],
    ["udp", "", 5300, 5310, 53],
    ["tcp", "", 0, 0, 81],
  ]);
});

test("-P publishes every exposed port that -p does not name", () => {
  const record = {
    config: { exposedPorts: ["80/tcp", "443/tcp"] },
    hostConfig: { publishAllPorts: true, portBindings: [{ containerPort: "80/tcp", hostPort: "8080" }] },
  };
  assert.deepEqual(ports(record), [
    ["tcp", "", 8080, 0, 80],
    ["tcp", "", 0, 0, 443],
  ]);
});

test("a port that is none is refused", () => {
  assert.throws(
    () => ports({ hostConfig: { portBindings: [{ containerPort: "80/tcp", hostPort: "70000" }] } }),
    {
      kind: "invalid",
    },
  );
});
