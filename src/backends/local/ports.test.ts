import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { NetworkEndpointSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { NetworkSchema } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { ContainerRecordSchema, NetworkRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkPlan } from "../driver/workload-spec.ts";
import { publishedPorts } from "./ports.ts";

type Networks = Readonly<Record<string, MessageInitShape<typeof NetworkSchema>>>;

function joined(networks: Networks): NetworkPlan {
  return {
    kind: "networks",
    networks: Object.entries(networks).map(([name, network]) => ({
      name,
      record: create(NetworkRecordSchema, { network }),
    })),
  };
}

const onBridge = {
  bridge: create(NetworkEndpointSchema, { ipAddress: "172.17.0.2", gateway: "172.17.0.1" }),
};

const ports = (record: MessageInitShape<typeof ContainerRecordSchema>) =>
  publishedPorts(
    create(ContainerRecordSchema, { ...record, endpoints: onBridge }),
    joined({ bridge: {} }),
  ).map(({ protocol, hostIp, hostPort, hostPortEnd, containerPort }) => [
    protocol,
    hostIp,
    hostPort,
    hostPortEnd,
    containerPort,
  ]);

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

test("an invalid port is refused", () => {
  assert.throws(
    () => ports({ hostConfig: { portBindings: [{ containerPort: "80/tcp", hostPort: "70000" }] } }),
    {
      kind: "invalid",
    },
  );
});

const published = { hostConfig: { portBindings: [{ containerPort: "80/tcp", hostPort: "8080" }] } };

test("of a container on internal networks alone nothing is published", () => {
  const record = create(ContainerRecordSchema, {
    ...published,
    endpoints: { inner: { ipAddress: "172.18.0.2" } },
  });
  assert.deepEqual(publishedPorts(record, joined({ inner: { internal: true } })), []);
  assert.deepEqual(publishedPorts(record, { kind: "none" }), []);
});

test("ports forward to the network of the default route, and are bound to its host address", () => {
  const record = create(ContainerRecordSchema, {
    ...published,
    endpoints: {
      inner: { ipAddress: "172.18.0.2" },
      outer: { ipAddress: "172.19.0.2", gateway: "172.19.0.1" },
    },
  });
  const options = { "com.docker.network.bridge.host_binding_ipv4": "127.0.0.9" };
  const [port] = publishedPorts(record, joined({ inner: { internal: true }, outer: { options } }));
  assert.deepEqual([port?.hostIp, port?.containerIp], ["127.0.0.9", "172.19.0.2"]);
});
