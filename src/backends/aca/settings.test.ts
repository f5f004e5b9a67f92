import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { buildLabel } from "../../common/build-label.ts";
import type { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { maskedPaths, readonlyPaths } from "../security/default-paths.ts";
import { acaSettings } from "./settings.ts";
import { unsharedVolumes } from "./volumes.ts";

type Host = MessageInitShape<typeof HostConfigSchema>;

const rules = acaSettings([{ ...unsharedVolumes, isSet: (_host, record) => unsharedVolumes.isSet(record) }], {
  cpu: 1,
  memory: 2 * 1024 ** 3,
});
const refused = (hostConfig: Host) => rules.unsupported(create(ContainerRecordSchema, { hostConfig }));
const unapplied = (record: MessageInitShape<typeof ContainerRecordSchema>) =>
  rules.notApplied(create(ContainerRecordSchema, record)).map(({ name }) => name);
const unappliedOf = (hostConfig: Host) => unapplied({ hostConfig });

const devices = "--device, --device-cgroup-rule, --gpus";
const namespaces = "--pid, --ipc (host and container:NAME)";
const endpoints = "--mac-address, --link-local-ip, options of endpoints (com.docker.network.endpoint.…)";
const unconfined = "--security-opt seccomp=unconfined, apparmor=unconfined, systempaths=unconfined";
const ownPaths = "MaskedPaths and ReadonlyPaths of the user's own";

describe("what a job cannot be", () => {
  const settings: readonly (readonly [Host, string])[] = [
    [{ privileged: true }, "--privileged"],
    [{ resources: { devices: [{ pathOnHost: "/dev/fuse" }] } }, devices],
    [{ resources: { deviceCgroupRules: ["c 1:3 r"] } }, devices],
    [{ resources: { deviceRequests: [{ count: -1 }] } }, devices],
    [{ capAdd: ["CAP_NET_ADMIN"] }, "--cap-add (all but those that Docker gives by default)"],
    [{ pidMode: "host" }, namespaces],
    [{ pidMode: "container:web" }, namespaces],
    [{ ipcMode: "host" }, namespaces],
    [{ networkMode: "container:web" }, "--network container:NAME"],
    [{ networkMode: "none" }, "--network none"],
    [{ resources: { cgroupParent: "/mine" } }, "--cgroup-parent"],
    [{ sysctls: { "net.core.somaxconn": "1" } }, "--sysctl"],
    [
      { securityOpt: ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'] },
      "--security-opt seccomp=PROFILE (without no-new-privileges)",
    ],
    [
      { securityOpt: ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_NOTIFY"}'] },
      "--security-opt seccomp=PROFILE (SCMP_ACT_NOTIFY, listenerPath)",
    ],
    [{ securityOpt: ["apparmor=mine"] }, "--security-opt (others)"],
  ];
  for (const [host, name] of settings) {
    it(`is refused by name: ${JSON.stringify(host).slice(0, 60)}`, () => {
      assert.deepEqual(refused(host), [name]);
    });
  }

  it("is no capability that every container has, no neutral value, no profile that the agent loads", () => {
    for (const host of [
      { capDrop: ["ALL"], capAdd: ["CAP_CHOWN"] },
      { securityOpt: ["seccomp=builtin", "apparmor=docker-default", "no-new-privileges"] },
      { securityOpt: ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'] },
      { ipcMode: "private", shmSize: 67_108_864n, networkMode: "default", runtime: "container-apps" },
    ]) {
      assert.deepEqual([refused(host), unappliedOf(host)], [[], []]);
    }
  });
});

describe("what a job works without", () => {
  const settings: readonly (readonly [Host, string])[] = [
    [{ readonlyRootfs: true }, "--read-only"],
    [{ mounts: [{ type: "image", source: "busybox", target: "/i" }] }, "--mount type=image (read-only)"],
    [{ tmpfs: { "/t": "" } }, "--tmpfs"],
    [{ shmSize: 1n }, "--shm-size"],
    [{ ipcMode: "none" }, "--ipc none"],
    [{ resources: { cpuRealtimePeriod: 1n } }, "--cpu-rt-period, --cpu-rt-runtime"],
    [{ oomScoreAdj: 5 }, "--oom-score-adj"],
    [{ utsMode: "host" }, "--uts host"],
    [{ cgroupnsMode: "host" }, "--cgroupns host"],
    [{ securityOpt: ["seccomp=unconfined"] }, unconfined],
    [{ securityOpt: ["systempaths=unconfined"] }, unconfined],
    [{ maskedPaths: { values: [] } }, unconfined],
    [{ readonlyPaths: { values: [] } }, unconfined],
    [{ maskedPaths: { values: ["/proc/kcore"] } }, ownPaths],
    [{ readonlyPaths: { values: [...readonlyPaths, "/proc/mine"] } }, ownPaths],
    [{ usernsMode: "host" }, "--userns"],
    [{ networkMode: "host" }, "--network host"],
    [{ runtime: "runsc" }, "--runtime"],
    [{ storageOpt: { other: "1" } }, "--storage-opt (all but size)"],
  ];
  for (const [host, name] of settings) {
    it(`is accepted, and told by name: ${JSON.stringify(host, (_key, value) => (typeof value === "bigint" ? String(value) : value)).slice(0, 60)}`, () => {
      assert.deepEqual([refused(host), unappliedOf(host)], [[], [name]]);
    });
  }

  it("is a path of a host, and volumes of another container that are directories of its own", () => {
    const mounts = [{ type: "bind", destination: "/srv" }];
    assert.deepEqual(unapplied({ hostConfig: {}, mounts }), ["host paths in --volume and --mount"]);
    const taken = { hostConfig: {}, anonymousVolumes: ["a"], takenSubpaths: { "/data": "" } };
    assert.deepEqual(unapplied({ ...taken, mounts: [{ type: "volume", name: "a", destination: "/data" }] }), [
      unsharedVolumes.name,
    ]);
  });

  it("is not told of a directory that a step of a build mounts", () => {
    const config = { labels: { [buildLabel]: "1" } };
    const hostConfig = { mounts: [{ type: "image", source: "busybox", target: "/i" }] };
    assert.deepEqual(unapplied({ config, hostConfig }), []);
  });

  it("is what an endpoint asks of its interface", () => {
    for (const config of [
      { macAddress: "02:42:ac:11:00:99" },
      { linkLocalIps: ["169.254.1.2"] },
      { driverOpts: { "com.docker.network.endpoint.ifname": "net0" } },
    ]) {
      assert.deepEqual(unapplied({ hostConfig: {}, endpoints: { net: { config } } }), [endpoints]);
    }
  });

  it("is no list of Docker's own paths, in whatever order", () => {
    const hostConfig = {
      maskedPaths: { values: maskedPaths.toReversed() },
      readonlyPaths: { values: [...readonlyPaths] },
    };
    assert.deepEqual(unappliedOf(hostConfig), []);
  });

  it("is the size that a container asks for, where it gets another", () => {
    const told = unappliedOf({ resources: { nanoCpus: 300_000_000n } });
    assert.deepEqual(told, ["--cpus and --memory exactly"]);
  });
});
