import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";

import type { RecordedRequest } from "../../../test/support/record-docker-cli.ts";
import { ApiVersion, maximumApiVersion } from "../api-version.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { containerConfigFromJson, containerConfigToJson } from "./container-config.ts";
import { createRequestFromJson } from "./create-request.ts";
import { hostConfigFromJson, hostConfigToJson } from "./host-config.ts";
import { parseJson } from "../http/json-body.ts";
import { JsonFields } from "./json-fields.ts";

const newest = new ApiVersion(maximumApiVersion);
const fixtures = join(dirname(findPackageJSON(import.meta.url) ?? "."), "test/fixtures/docker-cli");
const recordings = readdirSync(fixtures).map((file) => file.replace(/\.json$/, ""));

for (const name of recordings) {
  test(`everything in the CLI's body "${name}" comes back as it was given`, () => {
    const { HostConfig, NetworkingConfig, ...config } = recorded(name).body as Record<string, unknown>;
    const hostConfig = hostConfigFromJson(new JsonFields(HostConfig, "HostConfig"));
    assert.deepEqual(asJson(hostConfigToJson(hostConfig)), HostConfig);
    const containerConfig = containerConfigFromJson(new JsonFields(config, "Config"));
    assert.ok(containerConfig !== undefined);
    assert.deepEqual(asJson(containerConfigToJson(containerConfig)), withNilVolumes(config));
    assert.ok(NetworkingConfig !== undefined);
  });
}

test("no client marks its container as a build's", () => {
  const body = { Image: "x", Labels: { "sockerless.build": "" } };
  assert.throws(() => createRequestFromJson(body, newest), /the label sockerless\.build is the builder's/);
});

test("the CLI's endpoints arrive with what was asked of each", () => {
  const { body, apiVersion } = recorded("network");
  const { networking, hostConfig } = createRequestFromJson(body, new ApiVersion(apiVersion));
  assert.equal(hostConfig.networkMode, "front");
  const { front, back } = networking.endpoints;
  assert.deepEqual(front?.aliases, ["web"]);
  assert.equal(front?.ipv4Address, "172.30.0.9");
  assert.equal(front?.macAddress, "02:42:ac:1e:00:09");
  assert.equal(front?.gwPriority, 5);
  assert.ok(back !== undefined);
});

test("no limit of processes is told by 0, -1 and nothing alike", () => {
  for (const PidsLimit of [0, -1, null]) {
    const { hostConfig } = createRequestFromJson({ Image: "x", HostConfig: { PidsLimit } }, newest);
    assert.equal(hostConfig.resources?.pidsLimit, undefined);
  }
});

test("keys are understood in any case, as Go's decoder does", () => {
  const { config, hostConfig } = createRequestFromJson({ image: "x", hostconfig: { memory: 5 } }, newest);
  assert.equal(config.image, "x");
  assert.equal(hostConfig.resources?.memory, 5n);
});

test("a number beyond 2^53 keeps its last digit", () => {
  const { hostConfig } = createRequestFromJson(
    { Image: "x", HostConfig: { Memory: 9_007_199_254_740_993n } },
    newest,
  );
  assert.equal(hostConfig.resources?.memory, 9_007_199_254_740_993n);
  assert.match(stringifyJson(hostConfigToJson(hostConfig)), /"Memory":9007199254740993,/);
});

test("a value of the wrong type is refused with the field's path", () => {
  const cases: readonly (readonly [unknown, string])[] = [
    [{ Image: 1 }, "number into Go struct field CreateRequest.Config.Image of type string"],
    [{ Image: "x", Env: "A=1" }, "string into Go struct field CreateRequest.Config.Env of type []string"],
    [{ Image: "x", Tty: "yes" }, "string into Go struct field CreateRequest.Config.Tty of type bool"],
    [{ Image: "x", Cmd: 1 }, "number into Go struct field CreateRequest.Config.Cmd of type string"],
    [{ Image: "x", HostConfig: [] }, "array into Go struct field CreateRequest.HostConfig"],
    [
      { Image: "x", HostConfig: { Memory: 1.5 } },
      "number 1.5 into Go struct field CreateRequest.HostConfig.Memory of type int64",
    ],
    [
      parseJson('{ "Image": "x", "HostConfig": { "Memory": 1000.0 } }'),
      "number 1000.0 into Go struct field CreateRequest.HostConfig.Memory of type int64",
    ],
    [
      parseJson('{ "Image": "x", "HostConfig": { "Memory": 1e3 } }'),
      "number 1e3 into Go struct field CreateRequest.HostConfig.Memory of type int64",
    ],
    [parseJson('{ "Image": 1.0 }'), "number into Go struct field CreateRequest.Config.Image of type string"],
    [parseJson("1.0"), "number into Go value of type CreateRequest"],
    [
      { Image: "x", HostConfig: { PortBindings: { "80/tcp": [{ HostPort: 80 }] } } },
      "number into Go struct field CreateRequest.HostConfig.PortBindings.80/tcp.HostPort of type string",
    ],
    [[], "array into Go value of type CreateRequest"],
  ];
  for (const [body, expected] of cases) {
    assert.throws(
      () => createRequestFromJson(body, newest),
      (error) => {
        assert.ok(error instanceof Error);
        assert.ok(error.message.includes(expected), error.message);
        return true;
      },
    );
  }
});

test("keys that are names of JavaScript's are data like any other", () => {
  const body = JSON.parse(
    '{"Image":"x","Labels":{"__proto__":"a","constructor":"b"},"HostConfig":{"PortBindings":{"__proto__":[{"HostPort":"1"}]}}}',
  ) as unknown;
  const { config, hostConfig } = createRequestFromJson(body, newest);
  assert.equal(config.labels["constructor"], "b");
  assert.deepEqual(Object.keys(hostConfigToJson(hostConfig)["PortBindings"] as object), ["__proto__"]);
});

test("a mount's options of another type are refused from 1.42 on and dropped before", () => {
  const body = {
    Image: "x",
    HostConfig: { Mounts: [{ Type: "bind", Source: "/a", Target: "/b", VolumeOptions: { NoCopy: true } }] },
  };
  assert.throws(() => createRequestFromJson(body, new ApiVersion("1.42")), {
    message: 'VolumeOptions must not be specified on mount type "bind"',
  });
  const { hostConfig } = createRequestFromJson(body, new ApiVersion("1.41"));
  assert.equal(hostConfig.mounts[0]?.volumeOptions, undefined);
});

test("an old client's auto-remove is the client's own business", () => {
  const body = { Image: "x", HostConfig: { AutoRemove: true } };
  assert.equal(createRequestFromJson(body, new ApiVersion("1.24")).hostConfig.autoRemove, false);
  assert.equal(createRequestFromJson(body, new ApiVersion("1.25")).hostConfig.autoRemove, true);
});

test("several endpoints need 1.44", () => {
  const body = { Image: "x", NetworkingConfig: { EndpointsConfig: { a: {}, b: null } } };
  assert.throws(() => createRequestFromJson(body, new ApiVersion("1.43")), {
    message: "Container cannot be created with multiple network endpoints: a, b",
  });
  assert.equal(Object.keys(createRequestFromJson(body, newest).networking.endpoints).length, 2);
});

test("sysctls of eth0 move to the endpoint until 1.47 and are refused after", () => {
  const body = { Image: "x", HostConfig: { Sysctls: { "net.ipv4.conf.eth0.forwarding": "1" } } };
  const { hostConfig, networking, warnings } = createRequestFromJson(body, new ApiVersion("1.47"));
  assert.deepEqual(hostConfig.sysctls, {});
  assert.deepEqual(networking.endpoints["bridge"]?.driverOpts, {
    "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.forwarding=1",
  });
  assert.match(warnings[0] ?? "", /^Migrated sysctl/);
  assert.throws(
    () => createRequestFromJson(body, new ApiVersion("1.48")),
    /must be supplied using driver option/,
  );
});

function recorded(name: string): RecordedRequest {
  return JSON.parse(readFileSync(join(fixtures, `${name}.json`), "utf8")) as RecordedRequest;
}

function asJson(value: unknown): unknown {
  return JSON.parse(stringifyJson(value)) as unknown;
}

/** The CLI sends an empty map where dockerd answers nil. */
function withNilVolumes(config: Record<string, unknown>): Record<string, unknown> {
  const { Volumes } = config;
  return { ...config, Volumes: Object.keys(Volumes ?? {}).length === 0 ? null : Volumes };
}
