/**
 * Each field of a creation, written in every way that a client may choose (names, cases, units, order, duplicates), and what
 * an inspect tells of it, beside the dockerd of the release whose API is advertised.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { mobyPrograms } from "../conformance/moby.ts";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/docker-api.ts";
import { Dockerd } from "../support/dockerd.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { fieldsOf } from "../support/swagger.ts";

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

const hostConfig: Readonly<Record<string, readonly unknown[]>> = {
  Binds: [["/tmp:/b", "/tmp:/a:RO"], ["/tmp:/a:ro,Z"], ["/tmp:/a/"], ["/tmp/:/a:rw"], ["Vol:/a"], [], null],
  ContainerIDFile: ["/tmp/file"],
  LogConfig: [
    { Type: "json-file", Config: { "max-size": "10M", "max-file": "03" } },
    { Type: "none" },
    { Type: "json-file", Config: { labels: "b,a" } },
    {},
    null,
  ],
  PortBindings: [
    { "80/tcp": [{ HostPort: "08080" }, { HostPort: "8080" }] },
    { "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "" }] },
    { "80/TCP": [{ HostPort: "8080" }] },
    { "80": [{ HostPort: "8080" }] },
    { "80/tcp": [{ HostPort: "8080-8090" }] },
    { "80/tcp": [] },
    { "80/tcp": null },
    {},
    null,
  ],
  RestartPolicy: [
    { Name: "always" },
    { Name: "on-failure", MaximumRetryCount: 0 },
    { Name: "no", MaximumRetryCount: 0 },
    { Name: "Always" },
    { Name: "" },
    null,
  ],
  AutoRemove: [true],
  NetworkMode: ["", "default", "bridge", "host", "none", "HOST", "side"],
  VolumeDriver: ["local"],
  VolumesFrom: [[], null],
  ConsoleSize: [[24, 80], [0, 0], null],
  Annotations: [{ b: "2", a: "" }, {}, null],
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
  StorageOpt: [{}, null],
  Tmpfs: [{ "/b": "SIZE=1m", "/a": "" }, { "/a": "rw,noexec,size=65536k" }, {}, null],
  UTSMode: ["host", "Host"],
  UsernsMode: ["", "host", "HOST"],
  ShmSize: [0, 67_108_865, -1],
  Sysctls: [{ "net.ipv4.ip_forward": "1", "net.core.somaxconn": "1024" }, {}, null],
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
  BlkioWeightDevice: [[], null],
  BlkioDeviceReadBps: [[{ Path: "/dev/zero", Rate: 1024 }], [], null],
  BlkioDeviceWriteBps: [[], null],
  BlkioDeviceReadIOps: [[], null],
  BlkioDeviceWriteIOps: [[], null],
  CpuPeriod: [100_000],
  CpuQuota: [50_000, -1],
  CpuRealtimePeriod: [0],
  CpuRealtimeRuntime: [0],
  CpusetCpus: ["0", "0-1", "1,0", " 0"],
  CpusetMems: ["0"],
  Devices: [
    [{ PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "wr" }],
    [{ PathOnHost: "/dev/null" }],
    [],
    null,
  ],
  DeviceCgroupRules: [["c 1:3 rwm", "c 1:3 rwm"], ["C 1:3 r"], [], null],
  DeviceRequests: [[], null],
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
    [],
    null,
  ],
  MaskedPaths: [["/proc/b", "/proc/a", "/proc/a"], [], null],
  ReadonlyPaths: [["/proc/b", "/proc/a"], [], null],
  Init: [true, false, null],
};

const endpoint: Readonly<Record<string, readonly unknown[]>> = {
  Aliases: [["b", "a", "a"], ["B"], [], null],
  Links: [[], null],
  DriverOpts: [{ b: "1", a: "2" }, {}, null],
  MacAddress: ["02:42:AC:11:00:09", "02-42-ac-11-00-0a", "nope"],
  GwPriority: [7, -1],
  IPAMConfig: [{}, { IPv4Address: "" }, { IPv4Address: "nope" }, { LinkLocalIPs: [] }, null],
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

/** Cases in which the answers differ, and why that is meant. */
const intended: ReadonlyMap<string, string> = new Map([
  ['HostConfig.Binds: ["/tmp:/b","/tmp:/a:RO"]', "dockerd calls this fault of the client's its own, 500"],
  [
    'HostConfig.ExtraHosts: ["a:[::1]"]',
    "the address is taken with the brackets that Docker's client strips",
  ],
  ['HostConfig.SecurityOpt: ["systempaths=unconfined"]', "is what Docker's client makes lists of paths of"],
  [
    'HostConfig.UsernsMode: "HOST"',
    "dockerd ignores a mode where it remaps no users; we refuse what is not built",
  ],
  ['Endpoint.IPAMConfig: {"IPv4Address":"nope"}', "dockerd tells two faults of one address"],
]);

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
  let dockerd: Dockerd;
  let daemon: Daemon;
  const started = new AsyncDisposableStack();
  before(async () => {
    dockerd = await Dockerd.start(undefined, await mobyPrograms());
    started.defer(() => dockerd.stop());
    daemon = await Daemon.start();
    started.defer(() => daemon.stop());
    for (const [engine, subnet] of [
      [dockerd, "10.213.0.0/24"] as const,
      [daemon, "10.214.0.0/24"] as const,
    ]) {
      await engine.ok("load", "--input", await busyboxArchiveFile());
      await engine.ok("network", "create", "--subnet", subnet, "side");
      started.defer(async () => {
        await engine.docker("network", "rm", "side");
      });
    }
  });
  after(() => started.disposeAsync());

  test("is asked of every field that a creation has", () => {
    for (const [definition, fields] of [
      ["ContainerConfig", { ...config, Image: [] }], // Every creation has one.
      ["HostConfig", hostConfig],
      ["EndpointSettings", endpoint],
    ] as const) {
      const unasked = fieldsOf(definition).filter((field) => !(field in fields) && !given.has(field));
      assert.deepEqual(unasked, [], definition);
    }
  });

  for (const { name, body, told } of cases) {
    test(`is what dockerd tells: ${name}`, async () => {
      const [ours, theirs] = [
        await answer(daemon.socket, body, told),
        await answer(dockerd.socket, body, told),
      ];
      if (intended.has(name)) {
        assert.notEqual(ours, theirs);
      } else {
        assert.equal(ours, theirs);
      }
    });
  }
});

/** Asks an inspect about a new container; answers the field as JSON, or the refusal. */
async function answer(socket: string, body: Json, told: Case["told"]): Promise<string> {
  const made = await callApi(socket, "POST", "/v1.51/containers/create", {
    body: { Image: "busybox", Cmd: ["true"], ...body },
  });
  const { Id, message } = made.json() as { readonly Id?: string; readonly message?: string };
  if (Id === undefined) {
    return `${made.status} ${message}`;
  }
  const detail = (await callApi(socket, "GET", `/v1.51/containers/${Id}/json`)).json() as Json;
  await callApi(socket, "DELETE", `/v1.51/containers/${Id}?v=1`);
  return JSON.stringify(comparable(told(detail)))
    .replaceAll(Id, "ID")
    .replaceAll(Id.slice(0, 12), "ID");
}
