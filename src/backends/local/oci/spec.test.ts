import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { stringifyJson } from "../../../common/stringify-json.ts";
import type { HostConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { DeviceNodeSchema } from "../../../gen/sockerless/host/v1/host_pb.ts";
import {
  ContainerRecordSchema,
  ImageRecordSchema,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import { capabilitiesOfMask } from "./capabilities.ts";
import type { LookedUpPaths } from "./looked-up-paths.ts";
import { knowsRecursiveReadOnly, type MachineProfile, ociSpec as specOf } from "./spec.ts";

const fuse = create(DeviceNodeSchema, { type: "c", major: 10, minor: 229, mode: 0o666 });
const below = ["fuse", "net/tun", "console"].map((path) => ({ ...fuse, path }));
const paths: LookedUpPaths = {
  realPath: (path) => path,
  devices(path) {
    const nodes = path === "/dev/fuse" ? [fuse] : path === "/dev" ? below : [];
    return { nodes, failure: path === "/missing" ? "no such file or directory" : "" };
  },
  machineDevices: below.slice(0, 2),
};
const machine: MachineProfile = {
  capabilities: capabilitiesOfMask("000001ffffffffff"),
  cgroupVersion: "1",
  recursiveReadOnly: true,
  mounts: () => () => ({ mountPoint: "/", propagation: ["shared:1"] }),
  maskedPaths: ["/proc/kcore"],
  readonlyPaths: ["/proc/sys"],
  hasSysctl: () => true,
  appArmor: false,
};

const ociSpec = (asked: WorkloadSpec, profile: MachineProfile) => specOf(asked, profile, paths);

function workload(
  hostConfig: MessageInitShape<typeof HostConfigSchema> = {},
  mounts: ResolvedMount[] = [],
  network: WorkloadSpec["network"] = { kind: "none" },
): WorkloadSpec {
  return {
    record: create(ContainerRecordSchema, {
      id: "ab".repeat(32),
      config: { hostname: "box", workingDir: "/srv", user: "nobody" },
      hostConfig,
    }),
    image: create(ImageRecordSchema),
    args: ["/bin/sh", "-c", "true"],
    env: ["PATH=/bin", "HOSTNAME=box"],
    mounts,
    network,
  };
}

test("a plain container runs its process with the default isolation", () => {
  const spec = ociSpec(workload(), machine);
  assert.deepEqual(spec.process.args, ["/bin/sh", "-c", "true"]);
  assert.equal(spec.process.cwd, "/srv");
  assert.equal(spec.hostname, "box");
  assert.equal(spec.process.noNewPrivileges, false);
  assert.deepEqual(
    new Set(spec.linux.namespaces.map((namespace) => namespace.type)),
    new Set(["ipc", "mount", "network", "pid", "uts"]),
  );
  assert.deepEqual(spec.linux.maskedPaths, ["/proc/kcore"]);
  assert.ok(spec.linux.readonlyPaths.includes("/proc/sys"));
  assert.ok(spec.linux.seccomp);
  assert.equal(spec.linux.sysctl?.["net.ipv4.ip_unprivileged_port_start"], "0");
});

test("a requested AppArmor profile is passed to the runtime if the machine has AppArmor", () => {
  const profileOf = (appArmor: boolean, option?: string, privileged = false) =>
    ociSpec(workload({ securityOpt: option === undefined ? [] : [option], privileged }), {
      ...machine,
      appArmor,
    }).process.apparmorProfile;
  assert.equal(profileOf(true, "apparmor=mine"), "mine");
  assert.equal(profileOf(true, "apparmor:docker-default"), "docker-default");
  assert.equal(profileOf(false, "apparmor=mine"), undefined, "dockerd ignores it, too");
  assert.equal(profileOf(true, "apparmor=mine", true), undefined);
  for (const none of [undefined, "apparmor=", "apparmor=unconfined"]) {
    assert.equal(profileOf(true, none), undefined);
  }
});

test("on cgroup v2 a container has its own cgroup namespace", () => {
  const spec = ociSpec(workload(), { ...machine, cgroupVersion: "2" });
  assert.ok(spec.linux.namespaces.some((namespace) => namespace.type === "cgroup"));
});

test("host modes share the machine's namespaces", () => {
  const spec = ociSpec(
    workload({ pidMode: "host", ipcMode: "host", utsMode: "host" }, [], { kind: "host" }),
    machine,
  );
  assert.deepEqual(
    spec.linux.namespaces.map((namespace) => namespace.type),
    ["mount"],
  );
  assert.equal(spec.hostname, undefined);
  assert.equal(spec.linux.sysctl, undefined);
  assert.equal(spec.mounts.find((mount) => mount.destination === "/dev/shm")?.type, "bind");
});

test("limits reach the cgroup in the runtime's units", () => {
  const { memory, cpu, pids } = ociSpec(
    workload({ resources: { memory: 64n << 20n, nanoCpus: 1_500_000_000n, pidsLimit: 20n } }),
    machine,
  ).linux.resources;
  assert.deepEqual(memory, { limit: 64 << 20, swap: 128 << 20 });
  assert.deepEqual(cpu, { quota: 150_000, period: 100_000 });
  assert.deepEqual(pids, { limit: 20 });
});

test("an unlimited ulimit is written digit for digit", () => {
  const spec = ociSpec(
    workload({ resources: { ulimits: [{ name: "core", soft: 0n, hard: -1n }] } }),
    machine,
  );
  const text = stringifyJson(spec);
  assert.ok(
    text.includes('"rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":18446744073709551615}]'),
    text.slice(0, 600),
  );
});

test("a read-only root closes the default mounts that dockerd closes", () => {
  const { root, mounts } = ociSpec(workload({ readonlyRootfs: true }), machine);
  assert.equal(root.readonly, true);
  const isReadOnly = (path: string) =>
    mounts.find((mount) => mount.destination === path)?.options.includes("ro");
  assert.equal(isReadOnly("/sys/fs/cgroup"), true);
  assert.equal(isReadOnly("/dev/shm"), false);
});

test("the user's mounts come parents first and replace default ones", () => {
  const volume = create(VolumeRecordSchema, { name: "data", driverReference: "/state/volumes/data/_data" });
  const spec = ociSpec(
    workload({}, [
      { type: "volume", destination: "/srv/data/inner", readOnly: true, volume, subpath: "logs" },
      { type: "bind", destination: "/srv", readOnly: false, source: "/home" },
      { type: "tmpfs", destination: "/dev/shm", readOnly: false, tmpfsOptions: ["size=1m"] },
    ]),
    machine,
  );
  const own = spec.mounts.slice(-3);
  assert.deepEqual(
    own.map((mount) => mount.destination),
    ["/srv", "/dev/shm", "/srv/data/inner"],
  );
  assert.equal(own[2]?.source, "/state/volumes/data/_data/logs");
  assert.deepEqual(own[2]?.options, ["rbind", "rro", "rprivate"]);
  assert.deepEqual(own[1]?.options, ["noexec", "nosuid", "nodev", "rprivate", "size=1m"]);
  assert.equal(spec.mounts.filter((mount) => mount.destination === "/dev/shm").length, 1);
});

test("a privileged container is not masked and not filtered", () => {
  const { linux, mounts, process } = ociSpec(workload({ privileged: true }), machine);
  assert.equal(linux.seccomp, undefined);
  assert.deepEqual(linux.maskedPaths, []);
  assert.deepEqual(linux.resources.devices, [{ allow: true, access: "rwm" }]);
  assert.ok(process.capabilities.bounding.includes("CAP_SYS_ADMIN"));
  assert.ok(!mounts.find((mount) => mount.destination === "/sys")?.options.includes("ro"));
});

test("a device is made in the container and allowed in its cgroup", () => {
  const { devices, resources } = ociSpec(
    workload({
      resources: { devices: [{ pathOnHost: "/dev/fuse", pathInContainer: "", cgroupPermissions: "rw" }] },
    }),
    machine,
  ).linux;
  assert.deepEqual(devices[0], {
    path: "/dev/fuse",
    type: "c",
    major: 10,
    minor: 229,
    fileMode: 0o666,
    uid: 0,
    gid: 0,
  });
  assert.deepEqual(resources.devices.at(-1), { allow: true, type: "c", major: 10, minor: 229, access: "rw" });
});

test("a directory of devices is made as a tree, and nothing else is a device", () => {
  const given = (pathOnHost: string, pathInContainer = "", privileged = false) =>
    ociSpec(workload({ privileged, resources: { devices: [{ pathOnHost, pathInContainer }] } }), machine)
      .linux;
  const { devices, resources } = given("/dev", "/mine");
  assert.deepEqual(
    devices.map(({ path }) => path),
    ["/mine/fuse", "/mine/net/tun", "/mine/console"],
  );
  assert.equal(
    resources.devices.filter(({ minor }) => minor === 229).length,
    4,
    "the default rule and three",
  );
  assert.throws(() => given("/etc/passwd"), {
    message: 'error gathering device information while adding custom device "/etc/passwd": not a device node',
  });
  assert.throws(() => given("/missing"), /custom device "\/missing": no such file or directory$/);
});

test("a text that the runtime would repeat in an error is bounded, others are not", () => {
  const long = "a/".repeat(4_000);
  const options = Array.from({ length: 1_000 }, (_, index) => `option-${index}`);
  const mount = { type: "tmpfs", destination: "/t", readOnly: false, tmpfsOptions: options } as const;
  for (const refused of [
    workload({ resources: { cgroupParent: long } }),
    workload({ sysctls: { [long]: "1" } }),
    workload({ resources: { ulimits: [{ name: long }] } }),
    workload({}, [mount]),
    { ...workload(), args: [long] },
  ]) {
    assert.throws(() => ociSpec(refused, machine), {
      kind: "invalid",
      message: /more than 4096 characters in \.(linux|process|mounts)/,
    });
  }
  const args = ["/bin/sh", "-c", long];
  const taken = { ...workload({ annotations: { a: long } }), args, env: [`A=${long}`] };
  assert.deepEqual(ociSpec(taken, machine).process.args, args);
});

test("a privileged container has the machine's devices, and those that it asks for elsewhere", () => {
  const pathsOf = (...devices: { pathOnHost: string; pathInContainer?: string }[]) =>
    ociSpec(workload({ privileged: true, resources: { devices } }), machine).linux.devices.map(
      ({ path }) => path,
    );
  assert.deepEqual(pathsOf(), ["/dev/fuse", "/dev/net/tun"]);
  assert.deepEqual(pathsOf({ pathOnHost: "/dev/fuse" }), ["/dev/fuse", "/dev/net/tun"]);
  assert.deepEqual(pathsOf({ pathOnHost: "/dev/fuse", pathInContainer: "/dev/mine" }), [
    "/dev/fuse",
    "/dev/net/tun",
    "/dev/mine",
  ]);
});

test("control groups are writable on request, and by default in a privileged container", () => {
  const isReadOnly = (privileged: boolean, ...securityOpt: string[]) =>
    ociSpec(workload({ privileged, securityOpt }), machine)
      .mounts.find(({ destination }) => destination === "/sys/fs/cgroup")
      ?.options.includes("ro");
  assert.equal(isReadOnly(false), true);
  assert.equal(isReadOnly(true), false);
  assert.equal(isReadOnly(false, "writable-cgroups"), false);
  assert.equal(isReadOnly(false, "writable-cgroups=true"), false);
  assert.equal(isReadOnly(true, "writable-cgroups=false"), true);
  assert.throws(() => isReadOnly(false, "writable-cgroups=potato"), {
    message: 'invalid --security-opt 2: "writable-cgroups=potato"',
  });
});

test("the domain name is the kernel's, unless a sysctl says another", () => {
  const named = (hostConfig: Parameters<typeof workload>[0]) => {
    const asked = workload(hostConfig);
    if (asked.record.config !== undefined) {
      asked.record.config.domainname = "example.org";
    }
    return ociSpec(asked, machine).linux.sysctl?.["kernel.domainname"];
  };
  assert.equal(named({}), "example.org");
  assert.equal(named({ sysctls: { "kernel.domainname": "other" } }), "other");
  assert.equal(named({ utsMode: "host" }), undefined);
});

test("security options are read in both spellings, unknown ones refused", () => {
  assert.equal(
    ociSpec(workload({ securityOpt: ["no-new-privileges"] }), machine).process.noNewPrivileges,
    true,
  );
  assert.equal(ociSpec(workload({ securityOpt: ["seccomp:unconfined"] }), machine).linux.seccomp, undefined);
  assert.deepEqual(
    ociSpec(workload({ securityOpt: ["systempaths=unconfined"] }), machine).linux.readonlyPaths,
    [],
  );
  assert.throws(() => ociSpec(workload({ securityOpt: ["magic=1"] }), machine), { kind: "invalid" });
});

test("operands of seccomp rules are written digit for digit", () => {
  const operand = "18446744073709551615";
  const profile = `{"syscalls":[{"name":"mmap","action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":${operand},"op":"SCMP_CMP_EQ"}]}]}`;
  const spec = ociSpec(workload({ securityOpt: [`seccomp=${profile}`] }), machine);
  assert.match(stringifyJson(spec), new RegExp(`"value":${operand},`));
});

test("cpus and a quota contradict each other", () => {
  assert.throws(() => ociSpec(workload({ resources: { nanoCpus: 1n, cpuQuota: 5n } }), machine), {
    kind: "invalid",
  });
});

test("a read-only mount is recursively read-only by default, if the runtime supports it", () => {
  const options = (mount: Partial<ResolvedMount>, recursiveReadOnly: boolean) => {
    const bind: ResolvedMount = { type: "bind", destination: "/x", source: "/h", readOnly: true, ...mount };
    const { mounts } = ociSpec(workload({}, [bind]), { ...machine, recursiveReadOnly });
    return mounts.find(({ destination }) => destination === "/x")?.options[1];
  };
  assert.equal(options({}, true), "rro");
  assert.equal(options({}, false), "ro");
  assert.equal(options({ readOnlyBeneath: "no" }, true), "ro");
  assert.equal(options({ readOnlyBeneath: "required" }, true), "rro");
  assert.throws(() => options({ readOnlyBeneath: "required" }, false), /rro is not supported/);
  assert.deepEqual(
    ["1.1.5", "1.0.3", "1.3.0-rc.1"].map((version) => knowsRecursiveReadOnly("runc", version)),
    [true, false, true],
  );
  assert.deepEqual(
    ["1.8", "1.3"].map((version) => knowsRecursiveReadOnly("crun", version)),
    [true, false],
  );
});

test("a container's root propagates mounts if one of its mounts does", () => {
  const shared: ResolvedMount = {
    type: "bind",
    destination: "/x",
    source: "/h",
    readOnly: false,
    propagation: "rshared",
  };
  assert.equal(ociSpec(workload({}, [shared]), machine).linux.rootfsPropagation, "shared");
  assert.equal(ociSpec(workload(), machine).linux.rootfsPropagation, undefined);
});

test("a container's control groups are below the requested one, and nowhere else", () => {
  const pathOf = (cgroupParent: string) =>
    ociSpec(workload({ resources: { cgroupParent } }), machine).linux.cgroupsPath;
  const id = "ab".repeat(32);
  assert.equal(pathOf(""), undefined);
  assert.equal(pathOf("/jobs/one"), `/jobs/one/${id}`);
  assert.equal(pathOf("jobs"), `/jobs/${id}`);
  assert.equal(pathOf("../../x"), `/x/${id}`);
});
