import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema, NetworkRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkPlan } from "../driver/workload-spec.ts";
import { nameFiles } from "./name-files.ts";

const machine = {
  hosts: "127.0.0.1 localhost\n10.0.0.5 machine\n",
  resolvConf: "# by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch corp.example\noptions ndots:2\n",
  hostGateway: "172.17.0.1",
};
const bridge: NetworkPlan = {
  kind: "networks",
  networks: [{ name: "bridge", record: create(NetworkRecordSchema) }],
};

function fileOf(
  path: string,
  host: MessageInitShape<typeof HostConfigSchema>,
  plan: NetworkPlan,
  names = machine,
): string {
  const record = create(ContainerRecordSchema, {
    config: { hostname: "box", domainname: "example.org" },
    hostConfig: host,
    endpoints: { bridge: { ipAddress: "172.17.0.2" } },
  });
  return nameFiles(record, plan, names).find((file) => file.containerPath === path)?.content ?? "";
}

test("a container finds itself by its names", () => {
  assert.match(fileOf("/etc/hosts", {}, bridge), /^172\.17\.0\.2\tbox\.example\.org box$/m);
  assert.equal(fileOf("/etc/hostname", {}, bridge), "box\n");
});

test("extra hosts are added, host-gateway is the bridge's gateway", () => {
  const hosts = fileOf(
    "/etc/hosts",
    { extraHosts: ["db:10.1.1.1", "up:host-gateway", "six:[2001:db8::1]"] },
    bridge,
  );
  assert.match(hosts, /^10\.1\.1\.1\tdb$/m);
  assert.match(hosts, /^172\.17\.0\.1\tup$/m);
  assert.match(hosts, /^2001:db8::1\tsix$/m);
});

test("resolvers on the machine's own loopback are left out", () => {
  assert.equal(
    fileOf("/etc/resolv.conf", {}, bridge),
    "nameserver 10.0.0.2\nsearch corp.example\noptions ndots:2\n",
  );
});

test("a machine with nothing but a loopback resolver hands on public ones", () => {
  const names = { ...machine, resolvConf: "nameserver 127.0.0.53\n" };
  assert.equal(fileOf("/etc/resolv.conf", {}, bridge, names), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
});

test("--dns, --dns-search and --dns-option replace the machine's one by one", () => {
  const given = { dns: ["9.9.9.9"], dnsSearch: ["."], dnsOptions: ["timeout:1"] };
  assert.equal(fileOf("/etc/resolv.conf", given, bridge), "nameserver 9.9.9.9\noptions timeout:1\n");
});

test("host networking keeps the machine's files as they are", () => {
  assert.equal(fileOf("/etc/resolv.conf", {}, { kind: "host" }), machine.resolvConf);
  assert.equal(fileOf("/etc/hosts", {}, { kind: "host" }), machine.hosts);
});

test("a container on another one's network has no files of its own", () => {
  assert.deepEqual(
    nameFiles(create(ContainerRecordSchema), { kind: "container", containerId: "x" }, machine),
    [],
  );
});

const userDefined: NetworkPlan = {
  kind: "networks",
  networks: [{ name: "shop", record: create(NetworkRecordSchema) }],
};

test("a container on a user-defined network queries 127.0.0.11, also for names without a dot", () => {
  const names = { ...machine, resolvConf: "nameserver 10.0.0.2\nsearch corp.example\noptions edns0\n" };
  assert.equal(
    fileOf("/etc/resolv.conf", { dns: ["9.9.9.9"] }, userDefined, names),
    "nameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n",
  );
});

test("ndots of the machine or the user stays, unless it is no number", () => {
  assert.match(fileOf("/etc/resolv.conf", {}, userDefined), /^options ndots:2$/m);
  assert.match(fileOf("/etc/resolv.conf", { dnsOptions: ["ndots:many"] }, userDefined), /^options ndots:0$/m);
});
