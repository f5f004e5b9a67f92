import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { EndpointConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type ContainerDetail,
  ContainerDetailSchema,
  type ContainerStateSchema,
  ContainerStatus,
  ContainerSummarySchema,
  HealthStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";
import { ApiVersion } from "../api-version.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { containerDetailToJson, containerSummaryToJson } from "./containers.ts";

const id = "ab".repeat(32);

test("an inspect is as described, with everything set and with hardly anything", () => {
  for (const detail of [fullDetail(), bareDetail()]) {
    assertDescribed("get", "/containers/{id}/json", 200, inspected(detail, "1.51"), {
      undescribed: ["MountLabel", "ProcessLabel", "StartPhases"],
    });
  }
});

test("a container that never ran has Go's zero times and no ports", () => {
  const json = inspected(
    create(ContainerDetailSchema, { state: { status: ContainerStatus.CREATED } }),
    "1.51",
  );
  const state = json["State"] as Record<string, unknown>;
  assert.equal(state["StartedAt"], "0001-01-01T00:00:00Z");
  assert.equal(state["FinishedAt"], "0001-01-01T00:00:00Z");
  assert.equal("Health" in state, false);
  assert.deepEqual((json["NetworkSettings"] as Record<string, unknown>)["Ports"], {});
});

test("a published port has its bindings and an exposed one null", () => {
  const { Ports } = inspected(fullDetail(), "1.51")["NetworkSettings"] as Record<string, unknown>;
  assert.deepEqual(Ports, {
    "80/tcp": [
      { HostIp: "0.0.0.0", HostPort: "8080" },
      { HostIp: "::", HostPort: "8080" },
    ],
    "81/tcp": null,
  });
});

test("the flat network fields are those of the default bridge", () => {
  const settings = inspected(fullDetail(), "1.51")["NetworkSettings"] as Record<string, unknown>;
  assert.equal(settings["IPAddress"], "172.17.0.2");
  assert.equal(settings["Gateway"], "172.17.0.1");
  assert.equal(settings["MacAddress"], "02:42:ac:11:00:02");
});

test("the container has the MAC address that was asked for on its network, and no other", () => {
  for (const version of ["1.41", "1.43", "1.51"]) {
    const macOf = (detail: ContainerDetail) =>
      (inspected(detail, version)["Config"] as Record<string, unknown>)["MacAddress"];
    const detail = fullDetail();
    assert.equal(macOf(detail), undefined, version);
    const bridge = detail.networkSettings?.networks["bridge"];
    assert.ok(bridge);
    bridge.config = create(EndpointConfigSchema, { macAddress: "02:42:00:00:00:09" });
    assert.equal(macOf(detail), "02:42:00:00:00:09", version);
  }
});

test("until 1.44 the short ID and the host name are aliases on networks that somebody made", () => {
  const networksOf = (version: string): Record<string, { readonly Aliases: unknown }> => {
    const settings = inspected(fullDetail(), version)["NetworkSettings"] as Record<string, unknown>;
    return settings["Networks"] as Record<string, { readonly Aliases: unknown }>;
  };
  assert.deepEqual(networksOf("1.44")["front"]?.Aliases, ["web", id.slice(0, 12), "host1"]);
  assert.equal(networksOf("1.44")["bridge"]?.Aliases, null);
  assert.deepEqual(networksOf("1.45")["front"]?.Aliases, ["web"]);
});

test("a time has as many decimals as it needs", () => {
  const created = (nanos: number): unknown =>
    inspected(create(ContainerDetailSchema, { created: { seconds: 1_700_000_000n, nanos } }), "1.51")[
      "Created"
    ];
  assert.equal(created(0), "2023-11-14T22:13:20Z");
  assert.equal(created(120_000_000), "2023-11-14T22:13:20.12Z");
  assert.equal(created(1), "2023-11-14T22:13:20.000000001Z");
});

test("an element of a list tells its status as of now, and numbers of 64 bits digit for digit", () => {
  const startedAt = { seconds: 1_700_000_000n, nanos: 0 };
  const statusAt = (seconds: number, state: MessageInitShape<typeof ContainerStateSchema>): unknown =>
    containerSummaryToJson(
      create(ContainerSummarySchema, { id, state }),
      new ApiVersion("1.51"),
      (1_700_000_000 + seconds) * 1000,
    )["Status"];
  const running = { status: ContainerStatus.RUNNING, startedAt };
  assert.deepEqual([statusAt(5, running), statusAt(7200, running)], ["Up 5 seconds", "Up 2 hours"]);
  const ended = { status: ContainerStatus.EXITED, exitCode: 3, finishedAt: startedAt };
  assert.equal(statusAt(5, ended), "Exited (3) 5 seconds ago");
  const large = create(ContainerSummarySchema, { id, sizeRw: 2n ** 60n, labels: { quoted: '"}]' } });
  const text = stringifyJson(containerSummaryToJson(large, new ApiVersion("1.41"), 0));
  assert.match(text, /"SizeRw":1152921504606846976,/);
  assert.deepEqual((JSON.parse(text) as { Labels: unknown }).Labels, { quoted: '"}]' });
});

function inspected(detail: ContainerDetail, version: string): Record<string, unknown> {
  return JSON.parse(stringifyJson(containerDetailToJson(detail, new ApiVersion(version)))) as Record<
    string,
    unknown
  >;
}

/** The detail of a container with nothing but what the engine fills in for each. */
function bareDetail(): ContainerDetail {
  return create(ContainerDetailSchema, {
    id,
    config: {},
    hostConfig: { cgroupnsMode: "private", logConfig: { type: "json-file" } },
  });
}

function fullDetail(): ContainerDetail {
  const time = { seconds: 1_700_000_000n, nanos: 5 };
  return create(ContainerDetailSchema, {
    id,
    created: time,
    path: "sh",
    args: ["-c", "true"],
    state: {
      status: ContainerStatus.RUNNING,
      pid: 42n,
      startedAt: time,
      health: {
        status: HealthStatus.HEALTHY,
        log: [{ start: time, end: time, exitCode: 0, output: "ok" }],
      },
    },
    imageId: "sha256:1",
    name: "/web",
    driver: "overlay2",
    platform: { os: "linux", architecture: "amd64" },
    execIds: ["cd".repeat(32)],
    config: {
      hostname: "host1",
      exposedPorts: ["80/tcp", "81/tcp"],
      env: ["PATH=/bin"],
      cmd: { values: ["sh"] },
      healthcheck: { test: ["CMD", "true"], interval: 5_000_000_000n },
      volumes: ["/data"],
      labels: { a: "b" },
      stopTimeout: 5,
    },
    hostConfig: {
      networkMode: "bridge",
      cgroupnsMode: "private",
      logConfig: { type: "json-file" },
      portBindings: [{ containerPort: "80/tcp", hostPort: "8080" }],
      resources: { memory: 1n, memorySwappiness: 10n, ulimits: [{ name: "nofile", soft: 1n, hard: 2n }] },
      mounts: [
        { type: "tmpfs", target: "/t", tmpfsOptions: { sizeBytes: 1n, options: [{ values: ["noexec"] }] } },
      ],
      maskedPaths: { values: ["/proc/kcore"] },
      init: true,
    },
    graphDriverData: { UpperDir: "/u" },
    mounts: [{ type: "volume", name: "v", source: "/s", destination: "/data", driver: "local", rw: true }],
    networkSettings: {
      sandboxId: "s",
      ports: [
        { ip: "0.0.0.0", privatePort: 80, publicPort: 8080, type: "tcp" },
        { ip: "::", privatePort: 80, publicPort: 8080, type: "tcp" },
        { privatePort: 81, type: "tcp" },
      ],
      networks: {
        bridge: {
          gateway: "172.17.0.1",
          ipAddress: "172.17.0.2",
          ipPrefixLen: 16,
          macAddress: "02:42:ac:11:00:02",
        },
        front: {
          config: { aliases: ["web"], hasIpamConfig: true, ipv4Address: "172.30.0.9" },
          dnsNames: ["web"],
        },
      },
    },
    sizeRw: 0n,
    sizeRootFs: 1n,
  });
}
