/**
 * Each field of a creation, written in every way that a client may choose (names, cases, units, order, duplicates), and what
 * an inspect tells of it, beside the dockerd of the release whose API is advertised. Without SOCKERLESS_SOAK=1 it is every
 * fourth case.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { mobyPrograms } from "../conformance/moby.ts";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { sampled } from "../support/soak.ts";
import { unaskedFields } from "../support/swagger.ts";

type Json = Readonly<Record<string, unknown>>;

const config: Readonly<Record<string, readonly unknown[]>> = {
  Hostname: ["Box", "box.example.org", "under_score", ""],
  Domainname: ["Example.ORG"],
  User: ["0", "App:TTY", "1000:1000", " app"],
  AttachStdin: [true],
  AttachStdout: [true],
  AttachStderr: [true],
  ExposedPorts: [
    { "80/TCP": {} },
    { "80": {} },
    { "90/tcp": {}, "80/tcp": {} },
    { "80-82/udp": {} },
    {},
    null,
  ],
  Tty: [true],
  OpenStdin: [true],
  StdinOnce: [true],
  Env: [["B=2", "A=1"], ["A=1", "A=2"], ["A"], ["A="], ["path=x"], ["PATH=/b"], [], null],
  Cmd: [["a", "a", ""], [], null, "echo hi", [""]],
  Entrypoint: [["sh", "-c"], [], [""], null, "sh -c"],
  Healthcheck: [
    { Test: ["CMD", "true"] },
    { Test: ["CMD-SHELL", "true"], Interval: 1_500_000_000, Timeout: 1_000_001, Retries: 3 },
    { Test: ["NONE"] },
    { Test: [] },
    { Test: [], Interval: 5_000_000_000 },
    { Test: ["CMD", "true"], StartPeriod: 2_000_000_000, StartInterval: 1_000_000 },
    { Test: ["CMD", "true"], StartPeriod: 1_000_000, StartInterval: 999_999 },
    { Test: ["CMD", "true"], Interval: 999_999 },
    { Test: ["CMD", "true"], Timeout: -1 },
    { Test: ["CMD", "true"], Retries: -1 },
    { Interval: 1_000_000, Retries: 2 },
    { Test: ["CMD"] },
    { Test: ["CMD-SHELL", "a", "b"] },
    { Test: ["NONE", "x"] },
    { Test: ["true"] },
    { Test: ["cmd", "true"] },
    {},
    null,
  ],
  ArgsEscaped: [true],
  Volumes: [{ "/b": {}, "/a": {} }, { "/a/": {} }, {}, null],
  WorkingDir: ["/a/../b", "/b/", "//b", ""],
  NetworkDisabled: [true],
  MacAddress: ["02:42:AC:11:00:09", "02-42-ac-11-00-09"],
  OnBuild: [["RUN true", "RUN true"], [], null],
  Labels: [{ b: "2", a: "1" }, { A: "" }, { " x ": " y " }, {}, null],
  StopSignal: ["SIGTERM", "sigterm", "TERM", "15", "RTMIN+3"],
  StopTimeout: [0, -1, 3600, null],
  Shell: [["/bin/sh", "-c"], [], null],
};

const throttles: readonly unknown[] = [
  [
    { Path: "/dev/zero", Rate: 1024 },
    { Path: "/dev/null", Rate: 0 },
    { Path: "/dev/zero", Rate: 1 },
  ],
  [{ Path: "/dev/zero" }],
  [{ Rate: 5 }],
  [],
  null,
];

const hostConfig: Readonly<Record<string, readonly unknown[]>> = {
  Binds: [["/tmp:/b", "/tmp:/a:RO"], ["/tmp:/a:ro,Z"], ["/tmp:/a/"], ["/tmp/:/a:rw"], ["Vol:/a"], [], null],
  ContainerIDFile: ["/tmp/file"],
  LogConfig: [
    { Type: "json-file", Config: { "max-size": "10M", "max-file": "03" } },
    { Type: "none" },
    { Type: "json-file", Config: { labels: "b,a" } },
    { Type: "json-file", Config: { tag: "{{.ID}}", env: "b,a", "env-regex": "^A", "labels-regex": "" } },
    { Type: "json-file", Config: { mode: "non-blocking", "max-buffer-size": "4M" } },
    { Type: "json-file", Config: { mode: "Blocking" } },
    { Type: "json-file", Config: { nope: "1" } },
    { Type: "local", Config: { compress: "TRUE", "max-size": "1m", "max-file": "2" } },
    { Type: "none", Config: { nope: "1" } },
    { Type: "", Config: { "max-size": "1m" } },
    { Config: {} },
    {},
    null,
  ],
  PortBindings: [
    { "80/tcp": [{ HostPort: "08080" }, { HostPort: "8080" }] },
    { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "" }] },
    { "80/TCP": [{ HostPort: "8080" }] },
    { "80": [{ HostPort: "8080" }] },
    { "80/tcp": [{ HostPort: "8080-8090" }] },
    { "80/tcp": [{ HostIp: "::", HostPort: "8080" }, { HostIp: "127.0.0.1" }, {}] },
    { "80/tcp": [{ HostIp: "[::1]", HostPort: "0" }] },
    { "80/tcp": [{ HostIp: "::0001" }] },
    { "80/tcp": [{ HostPort: "65536" }] },
    { "80/tcp": [{ HostPort: "8080/tcp" }] },
    { "80/tcp": [{ HostPort: "nope" }] },
    { "80/tcp": [{ HostPort: " 80" }] },
    { "080/tcp": [{ HostPort: "8080" }] },
    { "80-81/tcp": [{ HostPort: "8080-8081" }] },
    { "80/nope": [{ HostPort: "8080" }] },
    { "nope/tcp": [{ HostPort: "8080" }] },
    { "0/tcp": [{ HostPort: "8080" }] },
    { "80/tcp": [] },
    { "80/tcp": null },
    {},
    null,
  ],
  RestartPolicy: [
    { Name: "always" },
    { Name: "on-failure", MaximumRetryCount: 0 },
    { Name: "no", MaximumRetryCount: 0 },
    { Name: "no", MaximumRetryCount: 2 },
    { Name: "on-failure", MaximumRetryCount: 5 },
    { Name: "on-failure", MaximumRetryCount: -1 },
    { Name: "always", MaximumRetryCount: 3 },
    { Name: "unless-stopped", MaximumRetryCount: -1 },
    { MaximumRetryCount: 2 },
    {},
    { Name: "Always" },
    { Name: "" },
    null,
  ],
  AutoRemove: [true],
  NetworkMode: ["", "default", "bridge", "host", "none", "HOST", "side"],
  VolumeDriver: ["local"],
  VolumesFrom: [[], null],
  ConsoleSize: [[24, 80], [0, 0], [1], [1, 2, 3], [], null],
  Annotations: [{ b: "2", a: "" }, { "": "x" }, { " A ": " b " }, {}, null],
  CapAdd: [
    ["net_raw", "KILL", "CAP_CHOWN", "KILL"],
    ["ALL"],
    ["all"],
    ["Net_Raw"],
    ["NOPE"],
    [" KILL"],
    [],
    null,
  ],
  CapDrop: [["mknod", "MKNOD", "CAP_MKNOD"], ["All"], ["cap_all"], [], null],
  Cgroup: ["", "nope"],
  CgroupnsMode: ["host", "private", "HOST"],
  Dns: [["10.0.0.2", "10.0.0.1", "10.0.0.2"], ["::1"], ["nope"], [], null],
  DnsOptions: [["ndots:2", "ndots:2"], [], null],
  DnsSearch: [["B.example", "a.example"], ["."], [], null],
  ExtraHosts: [
    ["b:10.0.0.2", "a:10.0.0.1"],
    ["A:10.0.0.1"],
    ["a:host-gateway"],
    ["a:[::1]"],
    ["a=10.0.0.1"],
    [],
    null,
  ],
  GroupAdd: [["tty", "0", "tty"], [], null],
  IpcMode: ["private", "shareable", "host", "none", "Host"],
  Links: [[], null],
  OomScoreAdj: [0, 500],
  PidMode: ["host", "HOST"],
  Privileged: [true],
  PublishAllPorts: [true],
  ReadonlyRootfs: [true],
  SecurityOpt: [
    ["no-new-privileges"],
    ["no-new-privileges:true"],
    ["no-new-privileges=true"],
    ["seccomp=unconfined", "label=disable"],
    ["apparmor:unconfined"],
    ["systempaths=unconfined"],
    [],
    null,
  ],
  StorageOpt: [{ size: "10G" }, { nope: "1" }, {}, null],
  Tmpfs: [
    { "/b": "SIZE=1m", "/a": "" },
    { "/a": "rw,noexec,size=65536k" },
    { "/a/": "nope" },
    { a: "" },
    {},
    null,
  ],
  UTSMode: ["host", "Host"],
  UsernsMode: ["", "host", "HOST"],
  ShmSize: [0, 67_108_865, -1],
  Sysctls: [{ "net.ipv4.ip_forward": "1", "net.core.somaxconn": "1024" }, { NOPE: " 1" }, {}, null],
  Runtime: ["runc", ""],
  Isolation: ["default", "Default", ""],
  CpuShares: [0, 1024, 2],
  Memory: [67_108_864, 6_291_456],
  MemoryReservation: [33_554_432],
  MemorySwap: [-1],
  MemorySwappiness: [-1, 60, 101],
  NanoCpus: [1_500_000_000, 1],
  CgroupParent: ["/parent"],
  BlkioWeight: [0, 300],
  BlkioWeightDevice: [
    [
      { Path: "/dev/zero", Weight: 300 },
      { Path: "/dev/null", Weight: 200 },
    ],
    [{ Path: "/dev/zero" }],
    [{ Weight: 5 }],
    [{}],
    [],
    null,
  ],
  BlkioDeviceReadBps: throttles,
  BlkioDeviceWriteBps: throttles,
  BlkioDeviceReadIOps: throttles,
  BlkioDeviceWriteIOps: throttles,
  CpuPeriod: [100_000],
  CpuQuota: [50_000, -1],
  CpuRealtimePeriod: [0],
  CpuRealtimeRuntime: [0],
  CpusetCpus: ["0", "0-1", "1,0", " 0"],
  CpusetMems: ["0"],
  Devices: [
    [{ PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "wr" }],
    [{ PathOnHost: "/dev/null" }],
    [{ PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "nope" }],
    [{ PathOnHost: "/dev/nope", PathInContainer: "x" }],
    [{ PathInContainer: "/dev/x", CgroupPermissions: "R" }],
    [{}],
    [],
    null,
  ],
  DeviceCgroupRules: [["c 1:3 rwm", "c 1:3 rwm"], ["C 1:3 r"], [], null],
  DeviceRequests: [
    [{ Driver: "nvidia", Count: -1, Capabilities: [["gpu"]], Options: { b: "1", a: "" } }],
    [{ DeviceIDs: ["1", "0"], Capabilities: [["gpu", "compute"], ["x"]] }],
    [{ Driver: "cdi", DeviceIDs: ["vendor.example/device=one"] }],
    [{ Count: 1, DeviceIDs: ["0"] }],
    [{}],
    [],
    null,
  ],
  KernelMemory: [0],
  KernelMemoryTCP: [0],
  CpuCount: [0, 2],
  CpuPercent: [0, 50],
  IOMaximumIOps: [0, 9],
  IOMaximumBandwidth: [0, 9],
  OomKillDisable: [false, null],
  PidsLimit: [0, -1, 100, null],
  Ulimits: [
    [
      { Name: "nofile", Soft: 200, Hard: 200 },
      { Name: "core", Soft: 0, Hard: -1 },
    ],
    [{ Name: "NOFILE", Soft: 1, Hard: 2 }],
    [
      { Name: "nofile", Soft: 1, Hard: 2 },
      { Name: "nofile", Soft: 3, Hard: 4 },
    ],
    [{ Name: "nofile", Soft: 2, Hard: 1 }],
    [{ Name: "nofile", Soft: -1, Hard: -1 }],
    [{ Name: "nope", Soft: 1, Hard: 1 }],
    [{ Name: "nofile" }],
    [{}],
    [],
    null,
  ],
  Mounts: [
    [
      { Type: "tmpfs", Target: "/b/" },
      { Type: "tmpfs", Target: "/a", TmpfsOptions: { SizeBytes: 1024, Mode: 511 } },
    ],
    [{ Type: "bind", Source: "/tmp/", Target: "/a", ReadOnly: true, BindOptions: {} }],
    [
      {
        Type: "volume",
        Source: "Vol",
        Target: "/a",
        VolumeOptions: { NoCopy: true, Labels: { b: "1", a: "2" } },
      },
    ],
    [{ Type: "TMPFS", Target: "/a" }],
    [{ Target: "/a" }],
    [{ Type: "tmpfs" }],
    [{ Type: "tmpfs", Target: "a" }],
    [{ Type: "tmpfs", Target: "/" }],
    [{ Type: "tmpfs", Source: "x", Target: "/a" }],
    [{ Type: "npipe", Source: "x", Target: "/a" }],
    [{ Type: "cluster", Source: "x", Target: "/a", ClusterOptions: {} }],
    ...["cached", "default", "nope"].map((Consistency) => [
      { Type: "bind", Source: "/tmp", Target: "/a", Consistency },
    ]),
    ...[
      { Propagation: "rslave" },
      { Propagation: "RSLAVE" },
      { Propagation: "nope" },
      { NonRecursive: true },
      { CreateMountpoint: true },
      { ReadOnlyNonRecursive: true },
      { ReadOnlyForceRecursive: true },
      { ReadOnlyNonRecursive: true, ReadOnlyForceRecursive: true },
    ].flatMap((BindOptions) =>
      [true, false].map((ReadOnly) => [
        { Type: "bind", Source: "/tmp", Target: "/a", ReadOnly, BindOptions },
      ]),
    ),
    [{ Type: "bind", Source: "/tmp", Target: "/a", VolumeOptions: {} }],
    [{ Type: "bind", Source: "/tmp", Target: "/a", TmpfsOptions: { Mode: 1 } }],
    [{ Type: "bind", Source: "/tmp", Target: "/a", ImageOptions: {} }],
    [{ Type: "bind", Source: "tmp", Target: "/a" }],
    [{ Type: "bind", Source: "/tmp/../nope", Target: "/a" }],
    [{ Type: "bind", Target: "/a" }],
    ...[
      {},
      { NoCopy: false, Labels: {} },
      { Subpath: "b/../a" },
      { Subpath: "../a" },
      { Subpath: "/a" },
      { DriverConfig: {} },
      { DriverConfig: { Name: "local" } },
      { DriverConfig: { Name: "local", Options: { type: "tmpfs", device: "tmpfs", o: "SIZE=1m" } } },
      { DriverConfig: { Name: "local", Options: {} } },
      { DriverConfig: { Name: "local", Options: { nope: "1" } } },
      { DriverConfig: { Options: { type: "tmpfs", device: "tmpfs" } } },
    ].map((VolumeOptions, number) => [
      { Type: "volume", Source: `Vol-${number}`, Target: "/a", VolumeOptions },
    ]),
    [{ Type: "volume", Target: "/a", VolumeOptions: { Subpath: "a" } }],
    [{ Type: "volume", Target: "/a", ReadOnly: true }],
    [{ Type: "volume", Source: "Vol", Target: "/a", BindOptions: {} }],
    [{ Type: "volume", Source: "Vol", Target: "/a", ImageOptions: {} }],
    [{ Type: "volume", Source: "Vol", Target: "/a", TmpfsOptions: {} }],
    [{ Type: "volume", Source: "/tmp", Target: "/a" }],
    [{ Type: "volume", Source: ".", Target: "/a" }],
    ...[
      {},
      { SizeBytes: -1 },
      { SizeBytes: 1_048_577 },
      { Mode: 0 },
      { Mode: 0o1777 },
      { Mode: 0o20_000_000_777 },
      { Options: [] },
      { Options: [["noexec"]] },
      { Options: [["exec"], ["noexec"]] },
      { Options: [["exec", "x"]] },
      { Options: [["nope"]] },
      { Options: [[]] },
      { Options: [["exec", "x", "y"]] },
      { Options: [null] },
    ].map((TmpfsOptions) => [{ Type: "tmpfs", Target: "/a", TmpfsOptions }]),
    [{ Type: "tmpfs", Target: "/a", ReadOnly: true, Consistency: "cached" }],
    [{ Type: "tmpfs", Target: "/a", BindOptions: {} }],
    [{ Type: "tmpfs", Target: "/a", VolumeOptions: {} }],
    [{ Type: "tmpfs", Target: "/a", ImageOptions: {} }],
    ...[undefined, {}, { Subpath: "bin" }, { Subpath: "b/../bin" }, { Subpath: "../bin" }].map(
      (ImageOptions) => [{ Type: "image", Source: "busybox", Target: "/a", ImageOptions }],
    ),
    [{ Type: "image", Source: "nope", Target: "/a" }],
    [{ Type: "image", Target: "/a" }],
    [{ Type: "image", Source: "busybox", Target: "/a", VolumeOptions: {} }],
    [null],
    [],
    null,
  ],
  MaskedPaths: [["/proc/b", "/proc/a", "/proc/a"], [], null],
  ReadonlyPaths: [["/proc/b", "/proc/a"], [], null],
  Init: [true, false, null],
};

const endpoint: Readonly<Record<string, readonly unknown[]>> = {
  Aliases: [["b", "a", "a"], ["B"], [], null],
  Links: [["nobody:a"], ["nobody"], [], null],
  DriverOpts: [{ b: "1", a: "2" }, { "com.docker.network.endpoint.ifname": "Own0" }, { "": "" }, {}, null],
  MacAddress: ["02:42:AC:11:00:09", "02-42-ac-11-00-0a", "nope"],
  GwPriority: [7, -1, 0],
  IPAMConfig: [
    {},
    { IPv4Address: "" },
    { IPv4Address: "nope" },
    { IPv4Address: "SUBNET.9" },
    { IPv4Address: "SUBNET.09" },
    { IPv4Address: "::ffff:SUBNET.9" },
    { IPv4Address: "SUBNET.0" },
    { IPv4Address: "SUBNET.255" },
    { IPv4Address: "192.0.2.1" },
    { IPv4Address: "fd00:213::9" },
    { IPv6Address: "fd00:213::9" },
    { IPv6Address: "FD00:213:0::9" },
    { IPv6Address: "2001:db8::1" },
    { IPv6Address: "nope" },
    { IPv6Address: "SUBNET.9" },
    { LinkLocalIPs: [] },
    { LinkLocalIPs: ["169.254.9.9", "FE80::9", "169.254.9.9"] },
    { LinkLocalIPs: ["SUBNET.77"] },
    { LinkLocalIPs: ["nope"] },
    null,
  ],
};

/** Fields that say what an engine has given an endpoint: a creation is not asked about them. */
const given: ReadonlySet<string> = new Set([
  ...["NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "DNSNames"],
  ...["IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"],
]);

/** One creation, and where in an inspect its field is told. */
interface Case {
  readonly name: string;
  readonly body: Json;
  readonly told: (detail: Json) => unknown;
}

const cases: readonly Case[] = [
  ...casesOf(config, "Config", (sent) => ({ ...sent })),
  ...casesOf(hostConfig, "HostConfig", (HostConfig) => ({
    HostConfig: { NetworkMode: "none", ...HostConfig },
  })),
  ...casesOf(endpoint, "Endpoint", (side) => ({
    HostConfig: { NetworkMode: "side" },
    NetworkingConfig: { EndpointsConfig: { side } },
  })),
];

function casesOf(
  fields: Readonly<Record<string, readonly unknown[]>>,
  part: "Config" | "HostConfig" | "Endpoint",
  bodyOf: (sent: Json) => Json,
): Case[] {
  const partOf = (detail: Json): Json =>
    (part === "Endpoint"
      ? (detail["NetworkSettings"] as { readonly Networks: Readonly<Record<string, Json>> }).Networks["side"]
      : (detail[part] as Json | undefined)) ?? {};
  return Object.entries(fields).flatMap(([field, values]) =>
    values.map((value) => ({
      name: `${part}.${field}: ${JSON.stringify(value)}`,
      body: bodyOf({ [field]: value }),
      told: (detail: Json) => partOf(detail)[field],
    })),
  );
}

/** Cases in which the answers differ, by the reason why that is meant. */
const intended: Readonly<Record<string, readonly string[]>> = {
  "dockerd calls this fault of the client's its own, 500": ['HostConfig.Binds: ["/tmp:/b","/tmp:/a:RO"]'],
  "the address is taken with the brackets that Docker's client strips": [
    'HostConfig.ExtraHosts: ["a:[::1]"]',
  ],
  "is what Docker's client makes lists of paths of": ['HostConfig.SecurityOpt: ["systempaths=unconfined"]'],
  "dockerd ignores a mode where it remaps no users; we refuse what is not built": [
    'HostConfig.UsernsMode: "HOST"',
  ],
  "what is not built is refused": [
    ...[{ size: "10G" }, { nope: "1" }].map((option) => `HostConfig.StorageOpt: ${JSON.stringify(option)}`),
    ...(hostConfig["DeviceRequests"] ?? [])
      .filter((requests) => Array.isArray(requests) && requests.length > 0)
      .map((requests) => `HostConfig.DeviceRequests: ${JSON.stringify(requests)}`),
    'Endpoint.IPAMConfig: {"LinkLocalIPs":["169.254.9.9","FE80::9","169.254.9.9"]}',
    'Endpoint.IPAMConfig: {"LinkLocalIPs":["SUBNET.77"]}',
  ],
  "dockerd refuses the start": [
    'HostConfig.PortBindings: {"80/tcp":[{"HostPort":"8080/tcp"}]}',
    'HostConfig.PortBindings: {"80/nope":[{"HostPort":"8080"}]}',
    'HostConfig.PortBindings: {"0/tcp":[{"HostPort":"8080"}]}',
    'HostConfig.Mounts: [{"Type":"bind","Source":"/tmp","Target":"/a","ReadOnly":true,"BindOptions":{"ReadOnlyNonRecursive":true,"ReadOnlyForceRecursive":true}}]',
  ],
  "the path is told as it is looked for": [
    'HostConfig.Mounts: [{"Type":"bind","Source":"/tmp/../nope","Target":"/a"}]',
  ],
  "dockerd tells two faults of one address": [
    'Endpoint.IPAMConfig: {"IPv4Address":"nope"}',
    'Endpoint.IPAMConfig: {"IPv4Address":"SUBNET.09"}',
    'Endpoint.IPAMConfig: {"IPv4Address":"fd00:213::9"}',
  ],
  "an IPv4 address is not taken in the form of IPv6": [
    'Endpoint.IPAMConfig: {"IPv4Address":"::ffff:SUBNET.9"}',
  ],
};

/**
 * A value without what JSON leaves open: the order of members, in which Go sorts them and we keep them, and whether an empty
 * list or object is told as such or as null.
 */
function comparable(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.length === 0 ? null : value.map(comparable);
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
    return members.length === 0 ? null : members.map(([name, each]) => [name, comparable(each)]);
  }
  return value ?? null;
}

describe("what a creation is told", () => {
  const engines = duringTests(async (resources) => {
    const begin = async (program: Daemon | Dockerd, subnet: string): Promise<Engine> => {
      await program.ok("network", "create", "--subnet", `${subnet}.0/24`, "side");
      resources.defer(async () => void (await program.docker("network", "rm", "side")));
      return { socket: program.socket, subnet };
    };
    const dockerd = resources.use(await Dockerd.startWithBusybox({ programs: await mobyPrograms() }));
    const daemon = resources.use(await Daemon.startWithBusybox());
    return { theirs: await begin(dockerd, "10.213.0"), ours: await begin(daemon, "10.214.0") };
  });

  test("is asked of every field that a creation has, of those within fields too", () => {
    for (const [definition, fields] of [
      ["ContainerConfig", { ...config, Image: [] }], // Every creation has one.
      ["HostConfig", hostConfig],
      ["EndpointSettings", endpoint],
    ] as const) {
      const unasked = unaskedFields(definition, fields).filter((field) => !given.has(field));
      assert.deepEqual(unasked, [], definition);
    }
  });

  test("is meant to differ in cases that there are", () => {
    const known = new Set(cases.map(({ name }) => name));
    const meant = Object.values(intended).flat();
    assert.deepEqual(
      meant.filter((name) => !known.has(name)),
      [],
    );
  });

  for (const [index, { name, body, told }] of cases.entries()) {
    test(`is what dockerd tells: ${name}`, sampled(index % 4 === 0), async () => {
      const own = await answer(engines.ours, body, told);
      const dockers = await answer(engines.theirs, body, told);
      if (Object.values(intended).flat().includes(name)) {
        assert.notEqual(own, dockers);
      } else {
        assert.equal(own, dockers);
      }
    });
  }
});

/** A daemon, and the first bytes of its network's addresses: those of two daemons of one machine differ. */
interface Engine {
  readonly socket: string;
  readonly subnet: string;
}

/** Asks an inspect about a new container; answers the field as JSON, or the refusal. */
async function answer({ socket, subnet }: Engine, body: Json, told: Case["told"]): Promise<string> {
  const sent = JSON.stringify({ Image: "busybox", Cmd: ["true"], ...body }).replaceAll("SUBNET", subnet);
  const made = await callApi(socket, "POST", "/v1.51/containers/create", { body: JSON.parse(sent) });
  const { Id, message } = made.json() as { readonly Id?: string; readonly message?: string };
  if (Id === undefined) {
    return `${made.status} ${message}`.replaceAll(subnet, "SUBNET");
  }
  const detail = (await callApi(socket, "GET", `/v1.51/containers/${Id}/json`)).json() as Json;
  await callApi(socket, "DELETE", `/v1.51/containers/${Id}?v=1`);
  return JSON.stringify(comparable(told(detail)))
    .replaceAll(Id, "ID")
    .replaceAll(Id.slice(0, 12), "ID")
    .replaceAll(subnet, "SUBNET");
}
