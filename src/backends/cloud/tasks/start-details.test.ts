import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { Tee } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerRecordSchema, ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { capabilitiesByBit } from "../../security/linux-capabilities.ts";
import { workloadSpec } from "../testing/workload-spec.ts";
import { startDetails } from "./start-details.ts";

const sealed = { specification: new Uint8Array([1]), seal: new Uint8Array([2]) };
const settings = {
  lingerMs: 60_000,
  drainTimeoutMs: 20_000,
  hasDockerSocket: false,
  architecture: "amd64",
} as const;
const id = "a".repeat(64);

function details(
  record: MessageInitShape<typeof ContainerRecordSchema>,
  lingerMs: number = settings.lingerMs,
  owner?: MessageInitShape<typeof ContainerRecordSchema>,
) {
  const plan = { kind: "none" as const };
  const spec = {
    record: create(ContainerRecordSchema, { id, ...record }),
    image: create(ImageRecordSchema),
    args: ["sh", "-c", "exit 3"],
    env: ["PATH=/bin", "A=1"],
    mounts: [],
    network: plan,
    ...(owner && { joined: { network: { owner: create(ContainerRecordSchema, owner), plan } } }),
  };
  return startDetails(spec, { ...settings, lingerMs }, sealed);
}

describe("what the agent of a cloud container is told with its start", () => {
  it("is the process as the user wants it", () => {
    const { process } = details({
      config: { user: "1000:5", workingDir: "/srv", tty: true },
      hostConfig: {
        groupAdd: ["audio"],
        consoleHeight: 24,
        consoleWidth: 80,
        securityOpt: ["no-new-privileges:true", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'],
        resources: { ulimits: [{ name: "nofile", soft: 1024n, hard: -1n }] },
      },
    });
    assert.deepEqual(process?.args, ["sh", "-c", "exit 3"]);
    assert.deepEqual(process?.env, ["PATH=/bin", "A=1"]);
    assert.equal(process?.user, "1000:5");
    assert.equal(process?.workingDir, "/srv");
    assert.deepEqual(process?.consoleSize, { height: 24, width: 80 });
    assert.deepEqual(process?.additionalGroups, ["audio"]);
    assert.equal(process?.noNewPrivileges, true);
    assert.equal(process?.seccomp?.defaultAction, "SCMP_ACT_ALLOW");
    assert.deepEqual(process?.resourceLimits, [{ name: "nofile", soft: 1024n, hard: 2n ** 64n - 1n }]);
  });

  it("is Docker's capabilities, less what is dropped and with what is added", () => {
    const of = (capAdd: string[], capDrop: string[]) =>
      details({ hostConfig: { capAdd, capDrop } }).process?.capabilities ?? [];
    assert.equal(of([], []).length, 14);
    assert.ok(!of([], ["CAP_CHOWN"]).includes("CAP_CHOWN"));
    assert.deepEqual(of(["CAP_KILL"], ["ALL"]), ["CAP_KILL"]);
    assert.ok(of(["CAP_SYS_PTRACE"], []).includes("CAP_SYS_PTRACE"));
  });

  it("is all capabilities, as many as there are, where all are wanted", () => {
    const of = (hostConfig: { capAdd?: string[]; capDrop?: string[]; privileged?: boolean }) =>
      details({ hostConfig }).process;
    assert.equal(of({ capAdd: ["NET_ADMIN"] })?.privileged, false);
    const most = of({ capAdd: ["ALL"], capDrop: ["SYS_ADMIN"] });
    assert.equal(most?.privileged, true);
    assert.deepEqual(
      capabilitiesByBit.filter((name) => !most?.capabilities?.includes(name)),
      ["CAP_SYS_ADMIN"],
    );
    assert.deepEqual(of({ privileged: true, capDrop: ["ALL"] })?.capabilities, capabilitiesByBit);
  });

  it("is the names that another container knows whose network it shares", () => {
    const told = details({ config: { hostname: "web" } }, 60_000, {
      hostConfig: { extraHosts: ["db:10.0.0.1", "gate:host-gateway"], dns: ["10.0.0.2"], dnsSearch: ["a.b"] },
      endpoints: { bridge: { gateway: "172.17.0.1" } },
    });
    assert.deepEqual(told.extraHosts, [
      { address: "10.0.0.1", names: ["db"] },
      { address: "172.17.0.1", names: ["gate"] },
    ]);
    assert.deepEqual(told.resolver, { servers: ["10.0.0.2"], search: ["a.b"], options: [] });
  });

  it("has the address at which a peer is reached where an extra host has the one that inspect shows", () => {
    const spec = workloadSpec(
      { hostConfig: { extraHosts: ["api:172.18.0.2", "other:172.18.0.3"] } },
      { linkedHosts: [{ address: "10.0.0.9", names: ["api"], shownAddress: "172.18.0.2" }] },
    );
    assert.deepEqual(startDetails(spec, settings, sealed).extraHosts, [
      { address: "172.18.0.3", names: ["other"] },
      { address: "10.0.0.9", names: ["api"] },
    ]);
  });

  it("is the names that it has and knows", () => {
    const told = details({
      config: { hostname: "web", domainname: "example.org" },
      hostConfig: {
        extraHosts: ["db:10.0.0.5", "six:[2001:db8::1]", "host.docker.internal:host-gateway"],
        dns: ["1.1.1.1"],
        dnsSearch: ["example.org"],
        dnsOptions: ["ndots:2"],
      },
      endpoints: { bridge: { gateway: "172.17.0.1" } },
    });
    assert.equal(told.hostname, "web.example.org");
    assert.deepEqual(told.extraHosts, [
      { address: "10.0.0.5", names: ["db"] },
      { address: "2001:db8::1", names: ["six"] },
      { address: "172.17.0.1", names: ["host.docker.internal"] },
    ]);
    assert.deepEqual(told.resolver, {
      servers: ["1.1.1.1"],
      search: ["example.org"],
      options: ["ndots:2"],
    });
  });

  it("is how it ends: its stop signal and timeout, and how long its agent stays", () => {
    assert.deepEqual(
      [details({}).stopSignal, details({}).stopTimeoutSeconds, details({}).lingerSeconds],
      [15, 10, 60],
    );
    const quitting = details({ config: { stopSignal: "SIGQUIT", stopTimeout: 90 } });
    assert.deepEqual([quitting.stopSignal, quitting.stopTimeoutSeconds], [3, 90]);
    // Until the backend lets it go, at most as long as one is waited for that is away.
    assert.equal(details({ hostConfig: { autoRemove: true } }).lingerSeconds, 20);
    assert.equal(details({}, 0).lingerSeconds, 20);
    assert.equal(details({}, 1_000).lingerSeconds, 20);
  });

  it("is whether its output goes to the platform's log", () => {
    assert.equal(details({}).tee, Tee.STDOUT);
    assert.equal(details({ hostConfig: { logConfig: { type: "none" } } }).tee, Tee.NONE);
  });

  it("is what it is to keep", () => {
    const { specification, seal } = details({});
    assert.deepEqual({ specification, seal }, sealed);
  });
});
