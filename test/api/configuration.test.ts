/**
 * Settings that a creation gives come back from an inspect; those that it leaves out change nothing; what an
 * inspect tells beside.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { checkout } from "../support/daemon.ts";
import { backendUnderTest, quickestNetwork } from "../support/backend-under-test.ts";
import { freePort } from "../support/free-port.ts";
import type { RecordedRequest } from "../support/record-docker-cli.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { api } = withDaemon();

type Json = Readonly<Record<string, unknown>>;

/** A body that the docker CLI has sent. */
async function recorded(name: string): Promise<Json> {
  const file = join(checkout, "test/fixtures/docker-cli", `${name}.json`);
  return (JSON.parse(await readFile(file, "utf8")) as RecordedRequest).body as Json;
}

async function made(body: Json): Promise<string> {
  return (await api.expect<{ Id: string }>(201, "POST", "/containers/create", body)).Id;
}

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

describe("the configuration of a container", () => {
  const config = {
    Hostname: "box",
    Domainname: "example.org",
    User: "app:tty",
    AttachStdout: true,
    ExposedPorts: { "80/tcp": {}, "53/udp": {} },
    Tty: true,
    OpenStdin: true,
    StdinOnce: true,
    Cmd: ["-c", "true"],
    Healthcheck: {
      Test: ["CMD", "true"],
      Interval: 2_000_000_000,
      Timeout: 1_000_000_000,
      Retries: 4,
      StartPeriod: 5_000_000_000,
      StartInterval: 1_000_000_000,
    },
    Image: "docker.io/library/busybox:latest",
    Volumes: { "/anonymous": {} },
    WorkingDir: "/var/tmp",
    Entrypoint: ["sh"],
    OnBuild: null,
    Labels: { team: "red", empty: "" },
    StopSignal: "SIGUSR1",
    StopTimeout: 77,
  };
  const hostConfig = {
    Binds: ["named:/named:ro", "/tmp:/host"],
    LogConfig: { Type: "local", Config: { "max-size": "1m", "max-file": "3" } },
    NetworkMode: quickestNetwork(),
    PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8080" }] },
    RestartPolicy: { Name: "on-failure", MaximumRetryCount: 3 },
    ConsoleSize: [24, 80],
    CapAdd: [backendUnderTest() === "aca" ? "KILL" : "SYS_PTRACE"], // jobs have no more than Docker's default ones
    CapDrop: ["MKNOD", "cap_chown", "CAP_SETFCAP", "MKNOD"],
    Dns: ["10.1.2.3"],
    DnsOptions: ["ndots:2"],
    DnsSearch: ["example.org"],
    ExtraHosts: ["db:10.0.0.5"],
    GroupAdd: ["audio"],
    OomScoreAdj: 500,
    ReadonlyRootfs: true,
    SecurityOpt: ["no-new-privileges"],
    Tmpfs: { "/run": "size=16m,mode=1777" },
    CpuShares: 512,
    Memory: 67_108_864,
    MemorySwap: 134_217_728,
    NanoCpus: 500_000_000,
    Ulimits: [{ Name: "nofile", Soft: 100, Hard: 200 }],
    Init: true,
    MaskedPaths: ["/proc/kcore"],
    ReadonlyPaths: ["/proc/sys"],
    Mounts: [{ Type: "tmpfs", Target: "/scratch", TmpfsOptions: { SizeBytes: 1_048_576, Mode: 448 } }],
    ...(backendUnderTest() === "aca" ? {} : { Sysctls: { "net.ipv4.ip_unprivileged_port_start": "0" } }),
    // A task has no such limits.
    ...(backendUnderTest() === "local"
      ? { ShmSize: 1_048_576, MemoryReservation: 33_554_432, CpusetCpus: "0", PidsLimit: 100 }
      : {}),
  };

  test("comes back as it was given", async () => {
    const id = await made({ ...config, Env: ["A=1", "B=two words"], HostConfig: hostConfig });
    const told = await api.inspect(id);
    for (const [key, value] of Object.entries(config)) {
      assert.deepEqual(told.Config[key], value, key);
    }
    for (const [key, value] of Object.entries(hostConfig)) {
      assert.deepEqual(told.HostConfig[key], value, key);
    }
    assert.deepEqual(told.Config.Env, ["A=1", "B=two words", path]);
    assert.deepEqual([told.Path, told.Args], ["sh", ["-c", "true"]]);
    await api.remove(id);
    await api.expect(204, "DELETE", "/volumes/named");
  });

  test("has the image's environment under the user's, and PATH always", async () => {
    const base = await api.create({});
    const change = (text: string) => `&changes=${encodeURIComponent(text)}`;
    await api.expect(
      201,
      "POST",
      `/commit?container=${base}&repo=based${change("ENV A=image")}${change("ENV B=image")}`,
    );
    const id = await made({ Image: "based", Env: ["B=user", "C=user"] });
    assert.deepEqual(
      new Set((await api.inspect(id)).Config.Env),
      new Set(["A=image", "B=user", "C=user", path]),
    );
    const own = await made({ Image: "busybox", Env: ["PATH=/own"] });
    assert.deepEqual((await api.inspect(own)).Config.Env, ["PATH=/own"]);
    await api.remove(base, id, own);
  });

  test("is changed by nothing that clients send to say nothing", async () => {
    const nothing = await made({ Image: "busybox" });
    const { Hostname: _, ...plain } = (await api.inspect(nothing)).Config;
    const plainHost = (await api.inspect(nothing)).HostConfig;
    const { HostConfig, ...Config } = await recorded("minimal");
    const neutral = {
      Isolation: "",
      MemorySwappiness: -1,
      LogConfig: { Type: "", Config: {} },
      NetworkMode: "default",
      Binds: [],
      Links: [],
      CapAdd: [],
      Devices: [],
      Ulimits: [],
      PortBindings: {},
      RestartPolicy: { Name: "" },
      PidsLimit: 0,
      OomKillDisable: false,
    };
    for (const body of [
      { ...Config, HostConfig },
      { ...Config, HostConfig: { ...(HostConfig as Json), ...neutral } },
      { Image: "busybox", HostConfig: null, NetworkingConfig: null },
      { Image: "busybox", HostConfig: neutral, NetworkingConfig: { EndpointsConfig: {} } },
    ]) {
      const id = await made(body);
      const told = await api.inspect(id);
      const { Hostname, ...rest } = told.Config;
      assert.equal(Hostname, id.slice(0, 12));
      // The CLI attaches the output; that is told, and changes nothing.
      assert.deepEqual(
        { ...rest, AttachStdout: false, AttachStderr: false },
        { ...plain, AttachStdout: false, AttachStderr: false },
      );
      assert.deepEqual(told.HostConfig, plainHost);
      await api.start(id);
      await api.remove(id);
    }
    await api.remove(nothing);
  });

  test("is refused where it has no image, an absurd name, or is no JSON", async () => {
    const create = "/containers/create";
    await api.refuses(404, "No such image: no/such:latest", "POST", create, { Image: "no/such" });
    await api.refuses(400, /./, "POST", create, {});
    await api.refuses(400, /invalid reference format/, "POST", create, { Image: "NOT VALID" });
    for (const name of ["a", "-dash", "sp%20ace", "sl%2Fash", "%2F..%2F.."]) {
      await api.refuses(
        400,
        /^Invalid container name \(.*\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_\.-\] are allowed$/,
        "POST",
        `${create}?name=${name}`,
        { Image: "busybox" },
      );
    }
    await api.refuses(400, /^invalid JSON/, "POST", create, '{"Image":');
    await api.refuses(400, /request body too large/, "POST", create, {
      Image: "busybox",
      Cmd: ["x".repeat(4_194_304)],
    });
    const listed = await api.expect<unknown[]>(200, "GET", "/containers/json?all=1");
    assert.deepEqual(listed, []);
  });

  test("names a container, whose name is then taken", async () => {
    const id = await api.create({}, "a_valid.Name-1");
    assert.equal((await api.inspect(id)).Name, "/a_valid.Name-1");
    await api.refuses(
      409,
      `Conflict. The container name "/a_valid.Name-1" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
      "POST",
      "/containers/create?name=a_valid.Name-1",
      { Image: "busybox" },
    );
    await api.remove(id);
    await api.remove(await api.create({}, "a_valid.Name-1"));
  });
});

describe("an inspect", () => {
  const zero = "0001-01-01T00:00:00Z";

  test("tells of each state what is true of it", async () => {
    const id = await api.create({ Cmd: ["sh", "-c", "read line; exit 3"], OpenStdin: true });
    const { State: created } = await api.inspect(id);
    assert.deepEqual(
      [created.Status, created.Running, created.Pid, created.ExitCode, created.StartedAt, created.FinishedAt],
      ["created", false, 0, 0, zero, zero],
    );
    await api.start(id);
    const { State: running } = await api.inspect(id);
    assert.deepEqual([running.Status, running.Running, running.FinishedAt], ["running", true, zero]);
    // It is the runtime's process until that executes the command.
    const processes = async () => (await api.call("GET", `/containers/${id}/top`)).text;
    await until(async () => ((await processes()).includes("read line") ? true : undefined));
    await api.expect(204, "POST", `/containers/${id}/pause`);
    assert.equal((await api.inspect(id)).State.Status, "paused");
    await api.expect(204, "POST", `/containers/${id}/unpause`);
    await api.expect(204, "POST", `/containers/${id}/stop?t=0`);
    const { State: exited } = await api.inspect(id);
    assert.deepEqual(
      [exited.Status, exited.Running, exited.Pid, exited.ExitCode, exited.OOMKilled],
      // As process 1 it ignores SIGTERM; where an agent is process 1, it does not.
      ["exited", false, 0, backendUnderTest() === "local" ? 137 : 143, false],
    );
    assert.equal(exited.StartedAt, running.StartedAt);
    assert.ok(exited.FinishedAt > exited.StartedAt);
    await api.remove(id);
  });

  test("tells of health only where there is a check", async () => {
    const sleep = { Cmd: ["sleep", "1000"] };
    const plain = await api.run(sleep);
    const checked = await api.run({ ...sleep, Healthcheck: { Test: ["CMD", "true"] } });
    assert.equal("Health" in (await api.inspect(plain)).State, false);
    assert.ok((await api.inspect(checked)).State.Health);
    await api.remove(plain, checked);
  });

  test("is as described, with mounts, networks in both forms, and the driver of its layers", async () => {
    const id = await api.run({
      Cmd: ["sleep", "1000"],
      HostConfig: { NetworkMode: "bridge", Binds: ["data:/data:ro", "/tmp:/host"] },
    });
    const answer = await api.call("GET", `/containers/${id}/json?size=1`);
    assertDescribed("get", "/containers/{id}/json", 200, answer.json(), { undescribed: ["StartPhases"] });
    const told = await api.inspect(id);
    const mounts = told.Mounts.toSorted((one, other) =>
      String(one["Destination"]) < String(other["Destination"]) ? -1 : 1,
    );
    assert.deepEqual(
      mounts.map(({ Type, Name, Destination, RW }) => [Type, Name, Destination, RW]),
      [
        ["volume", "data", "/data", false],
        ["bind", undefined, "/host", true],
      ],
    );
    const { IPAddress, Gateway, MacAddress, IPPrefixLen, Networks } = told.NetworkSettings;
    assert.match(String(IPAddress), /^\d+\.\d+\.\d+\.\d+$/);
    const bridge = (Networks as Readonly<Record<string, Json>>)["bridge"];
    assert.deepEqual(
      [bridge?.["IPAddress"], bridge?.["Gateway"], bridge?.["MacAddress"], bridge?.["IPPrefixLen"]],
      [IPAddress, Gateway, MacAddress, IPPrefixLen],
    );
    assert.equal(typeof (answer.json() as { GraphDriver: { Name: unknown } }).GraphDriver.Name, "string");
    await api.remove(id);
    await api.expect(204, "DELETE", "/volumes/data");
  });
});

describe("published ports", () => {
  const publishing = (HostPort: string) => ({
    Cmd: ["sleep", "1000"],
    HostConfig: { NetworkMode: "bridge", PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort }] } },
  });
  const portsOf = async (container: string) => (await api.inspect(container)).NetworkSettings.Ports;

  test("are bound at the start and given back at the stop", async () => {
    const port = String(await freePort());
    const [one, other] = [await api.create(publishing(port)), await api.create(publishing(port))];
    assert.deepEqual(await portsOf(one), {});
    await api.start(one);
    assert.deepEqual(await portsOf(one), { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: port }] });
    await api.refuses(
      500,
      new RegExp(`Bind for 127\\.0\\.0\\.1:${port} failed: port is already allocated`),
      "POST",
      `/containers/${other}/start`,
    );
    assert.deepEqual(await portsOf(other), {});
    await api.expect(204, "POST", `/containers/${one}/stop?t=0`);
    assert.deepEqual(await portsOf(one), {});
    await api.start(other);
    await api.remove(one, other);
  });

  test("of the container's own choice are told right after the start", async () => {
    const id = await api.run(publishing(""));
    const [binding] = (await portsOf(id))["80/tcp"] ?? [];
    assert.match(binding?.HostPort ?? "", /^[1-9]\d+$/);
    const listed = await api.expect<{ Id: string; Ports: readonly { PublicPort?: number }[] }[]>(
      200,
      "GET",
      "/containers/json",
    );
    assert.deepEqual(
      listed.map(({ Ports }) => Ports[0]?.PublicPort),
      [Number(binding?.HostPort)],
    );
    await api.remove(id);
  });
});
