/**
 * Calls of whole clients from the first to the last, in their order: GitLab Runner's docker executor, act,
 * testcontainers, devcontainers. (docker compose is in compose.test.ts, GitHub's runner in github.test.ts.)
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { PassThrough } from "node:stream";
import { describe, test } from "node:test";

import Docker from "dockerode";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { EngineApi } from "../support/engine-api.ts";
import { FollowingClient } from "../support/following-client.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { runGoTests } from "../support/programs.ts";
import { channelText, hijackRequest } from "../support/raw-client.ts";
import { entriesOf, tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok } = withDaemon();
const api = new EngineApi(() => daemon.socket, "1.44");

/** A task has no host: what a client mounts from there is accepted and not applied. */
const hasHost = backendUnderTest() === "local";

/** A process that answers on port 80 of every address. */
const server = ["sh", "-c", "echo listening; exec nc -ll -p 80 -e echo served"];

/** The host configuration that GitLab Runner sends for a job with `cpus` and `memory` and nothing else. */
const runnerHostConfig = {
  Memory: 512 << 20,
  MemorySwap: 0,
  MemoryReservation: 0,
  CgroupParent: "",
  CpusetCpus: "",
  CpusetMems: "",
  CpuShares: 0,
  NanoCpus: 1_000_000_000,
  Devices: [],
  DeviceRequests: [],
  OomKillDisable: false,
  DeviceCgroupRules: null,
  Ulimits: [],
  Dns: null,
  DnsSearch: null,
  Runtime: "",
  Privileged: false,
  UsernsMode: "",
  CapAdd: null,
  CapDrop: null,
  SecurityOpt: null,
  RestartPolicy: { Name: "no" },
  ExtraHosts: null,
  IpcMode: "",
  Links: [],
  VolumeDriver: "",
  VolumesFrom: null,
  LogConfig: { Type: "json-file" },
  Tmpfs: null,
  Sysctls: null,
  Isolation: "",
  ShmSize: 0,
};

describe("GitLab Runner's docker executor", () => {
  /** Attaches, starts, sends the script and its end, and waits: one stage of a job. */
  async function stage(container: string, script: string): Promise<{ code: number; output: string }> {
    const client = api.connect();
    client.send(hijackRequest(`/v1.44/containers/${container}/attach?stdin=1&stdout=1&stderr=1&stream=1`));
    assert.match(await client.answered(), /^HTTP\/1\.1 101 /);
    const waiting = await api.beginWait(container, "next-exit");
    await api.start(container);
    client.socket.end(script);
    await client.end();
    client.close();
    const code = await api.endOfWait(waiting);
    assert.equal(await api.wait(container, "not-running"), code);
    return { code, output: channelText(client.body, 1) };
  }

  test("runs the stages of a job in two containers that share a volume, beside a service", async () => {
    assert.equal((await api.call("GET", "/_ping")).text, "OK");
    await api.expect(200, "GET", "/info");
    // Its helper comes as an archive, and gets a name.
    const archive = await readFile(await busyboxArchiveFile("helper:loaded"));
    assert.match(
      (await api.call("POST", "/images/load?quiet=1", archive)).text,
      /Loaded image: helper:loaded/,
    );
    await api.expect(201, "POST", "/images/helper:loaded/tag?repo=gitlab/gitlab-runner-helper&tag=x86_64-1");
    const helperImage = await api.expect<{ Id: string }>(
      200,
      "GET",
      "/images/gitlab/gitlab-runner-helper:x86_64-1/json",
    );

    const labels = { "com.gitlab.gitlab-runner.job.id": "1" };
    const network = (
      await api.expect<{ Id: string }>(201, "POST", "/networks/create", {
        Name: "runner-net",
        Labels: labels,
      })
    ).Id;
    for (const Name of ["runner-cache", "runner-builds"]) {
      await api.expect(201, "POST", "/volumes/create", { Name, Labels: labels });
      // A container of its own sets the rights of each volume.
      const init = await api.run(
        {
          Image: helperImage.Id,
          Cmd: ["chmod", "777", "/gitlab-runner-cache-init"],
          HostConfig: { LogConfig: { Type: "json-file" }, Binds: [`${Name}:/gitlab-runner-cache-init`] },
        },
        `${Name}-set-permission-1`,
      );
      assert.equal(await api.wait(init, "not-running"), 0);
      await api.remove(init);
    }
    const attach = { NetworkMode: "runner-net" };
    const service = await api.run(
      {
        Cmd: server,
        Labels: labels,
        HostConfig: attach,
        NetworkingConfig: { EndpointsConfig: { "runner-net": { Aliases: ["db", "postgres"] } } },
      },
      "runner-service",
    );
    // A container of its own asks whether the service answers.
    const health = await api.run({
      Image: "gitlab/gitlab-runner-helper:x86_64-1",
      Cmd: ["sh", "-c", "until nc -w 1 $WAIT_FOR_SERVICE_TCP_ADDR 80 < /dev/null; do sleep 0.1; done"],
      Env: ["WAIT_FOR_SERVICE_TCP_ADDR=db"],
      HostConfig: attach,
    });
    assert.equal(await api.wait(health), 0);
    await api.remove(health);

    const job = {
      Cmd: ["sh"],
      Labels: labels,
      Tty: false,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      OpenStdin: true,
      StdinOnce: true,
      HostConfig: {
        ...runnerHostConfig,
        ...attach,
        Binds: ["runner-cache:/cache", "runner-builds:/builds"],
      },
    };
    const helper = await api.create(
      { ...job, Image: "gitlab/gitlab-runner-helper:x86_64-1" },
      "runner-predefined",
    );
    const build = await api.create(job, "runner-build");
    // The helper brings the sources, the build works on them, the helper takes what came of it.
    assert.deepEqual(await stage(helper, "echo cloned > /builds/code; echo mine > /own\n"), {
      code: 0,
      output: "",
    });
    assert.deepEqual(await stage(build, "echo prepared > /work; echo kept > /cache/file; exit 0\n"), {
      code: 0,
      output: "",
    });
    assert.deepEqual(
      await stage(build, "cat /work /cache/file; nc -w 60 postgres 80 < /dev/null; exit 3\n"),
      {
        code: 3,
        output: "prepared\nkept\nserved\n",
      },
    );
    const waitFor = (file: string) => `until test -e /builds/${file}; do sleep 0.1; done`;
    assert.deepEqual(
      await Promise.all([
        stage(helper, `touch /builds/ready; ${waitFor("result")}; cat /own /builds/result\n`),
        stage(
          build,
          `${waitFor("ready")}; cat /builds/code; echo built > /builds/new; mv /builds/new /builds/result\n`,
        ),
      ]),
      [
        { code: 0, output: "mine\nbuilt\n" },
        { code: 0, output: "cloned\n" },
      ],
    );
    const long = `# ${"x".repeat(300_000)}\necho after\n`;
    assert.deepEqual(await stage(build, long), { code: 0, output: "after\n" });

    for (const container of [helper, build, service]) {
      await api.call("POST", `/containers/${container}/stop?t=0`);
      await api.expect(200, "POST", `/networks/${network}/disconnect`, { Container: container, Force: true });
      await api.remove(container);
    }
    await api.expect(204, "DELETE", `/networks/${network}`);
    await api.expect(204, "DELETE", "/volumes/runner-cache");
    await api.expect(204, "DELETE", "/volumes/runner-builds");
  });
});

describe("act", () => {
  test("brings its scripts as archives and executes them", async () => {
    const id = await api.run({
      Entrypoint: ["tail", "-f", "/dev/null"],
      WorkingDir: "/github/workspace",
      HostConfig: { NetworkMode: "host" },
    });
    const archive = (path: string) => `/containers/${id}/archive?path=${encodeURIComponent(path)}`;
    const scripts = await tarOf([
      { name: "var/run/act/", type: "directory" },
      { name: "var/run/act/workflow/", type: "directory" },
      {
        name: "var/run/act/workflow/0",
        content: "echo step >> $GITHUB_ENV\necho ran in $PWD\nexit 4\n",
        mode: 0o755,
      },
      { name: "var/run/act/workflow/envs.txt", content: "" },
    ]);
    const put = await api.call("PUT", archive("/"), scripts, { "Content-Type": "application/x-tar" });
    assert.equal(put.status, 200, put.text);
    const { Id: exec } = await api.expect<{ Id: string }>(201, "POST", `/containers/${id}/exec`, {
      Cmd: ["sh", "-e", "/var/run/act/workflow/0"],
      WorkingDir: "/tmp",
      Env: ["GITHUB_ENV=/var/run/act/workflow/envs.txt"],
      AttachStdout: true,
      AttachStderr: true,
    });
    const client = api.connect();
    client.send(hijackRequest(`/v1.44/exec/${exec}/start`, { body: "{}" }));
    await client.end();
    client.close();
    assert.equal(channelText(client.body, 1), "ran in /tmp\n");
    const { ExitCode } = await api.expect<{ ExitCode: number }>(200, "GET", `/exec/${exec}/json`);
    assert.equal(ExitCode, 4);
    const head = await api.call("HEAD", archive("/var/run/act/workflow/envs.txt"));
    assert.ok(head.headers["x-docker-container-path-stat"]);
    const [envs] = await entriesOf((await api.call("GET", archive("/var/run/act/workflow/envs.txt"))).bytes);
    assert.deepEqual([envs?.name, envs?.content], ["envs.txt", "step\n"]);
    await api.remove(id);
  });
});

describe("testcontainers", () => {
  const docker = () => new Docker({ socketPath: daemon.socket });

  test("starts a reaper with the socket, in both forms of a mount", async () => {
    const socket = "/var/run/docker.sock";
    for (const mount of [
      { Binds: [`${socket}:${socket}`] },
      { Mounts: [{ Type: "bind" as const, Source: socket, Target: socket, ReadOnly: false }] },
    ]) {
      const reaper = await docker().createContainer({
        Image: "busybox",
        Cmd: ["sh", "-c", `test -S ${socket} && echo found`],
        HostConfig: { AutoRemove: false, ...mount },
      });
      await reaper.start();
      assert.equal(((await reaper.wait()) as { StatusCode: number }).StatusCode, hasHost ? 0 : 1);
      await reaper.remove();
    }
  });

  test("copies before the start, and waits for logs, ports and health", async () => {
    const container = await docker().createContainer({
      Image: "busybox",
      Cmd: ["sh", "/setup/start.sh"],
      Labels: { "org.testcontainers": "true" },
      ExposedPorts: { "80/tcp": {} },
      Healthcheck: { Test: ["CMD-SHELL", "nc -w 1 127.0.0.1 80 < /dev/null"], Interval: 50_000_000 },
      HostConfig: { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "0" }] } },
    });
    const script = "echo database system is ready; exec nc -ll -p 80 -e echo served";
    await container.putArchive(await tarOf([{ name: "setup/start.sh", content: script }]), { path: "/" });
    await container.start();
    // The mapped port is read once, right after the start.
    const { NetworkSettings, State } = await container.inspect();
    assert.equal(State.Running, true);
    const port = Number(NetworkSettings.Ports["80/tcp"]?.[0]?.HostPort);
    assert.ok(port > 0);

    // `tail` is a number in dockerode's types; testcontainers says `all`.
    const options = { follow: true as const, stdout: true, stderr: true, since: 0, tail: "all" as never };
    const log = await container.logs(options);
    const out = new PassThrough();
    docker().modem.demuxStream(log, out, out);
    let text = "";
    out.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    await until(() => text.includes("database system is ready") || undefined);
    (log as unknown as { destroy(): void }).destroy();

    const reached = await until(
      () =>
        new Promise<string | undefined>((resolve) => {
          let answer = "";
          const client = connect(port, "127.0.0.1");
          client.on("data", (chunk: Buffer) => {
            answer += chunk.toString();
          });
          client.on("error", () => {});
          client.on("close", () => resolve(answer === "" ? undefined : answer));
        }),
    );
    assert.equal(reached, "served\n");
    await until(async () =>
      (await container.inspect()).State.Health?.Status === "healthy" ? true : undefined,
    );
    const found = await docker().listContainers({ filters: { label: ["org.testcontainers=true"] } });
    assert.deepEqual(
      found.map(({ Id }) => Id),
      [container.id],
    );
    await container.remove({ force: true, v: true });
  });
});

describe("devcontainers", () => {
  test("waits for the start by events, reads mounts, and executes as a user", async () => {
    const filters = ["--filter", "event=start", "--filter", "label=devcontainer.local_folder=/repo"];
    const events = new FollowingClient(daemon, "events", "--format={{json .}}", "--since=0", ...filters);
    const work = daemon.directory;
    const id = await ok(
      ...[
        "run",
        "-d",
        "--label",
        "devcontainer.local_folder=/repo",
        "--mount",
        `type=bind,source=${work},target=/repo`,
      ],
      ...["--mount", "type=volume,source=vscode,target=/vscode", "busybox", "sleep", "1000"],
    );
    await events.receives();
    assert.equal((JSON.parse(events.stdout.split("\n")[0] ?? "") as { id: string }).id, id);
    await events.leave();
    const mounts = JSON.parse(await ok("inspect", "--format", "{{json .Mounts}}", id)) as {
      Type: string;
      Source: string;
      Destination: string;
    }[];
    assert.deepEqual(
      new Set(mounts.map(({ Type, Destination }) => `${Type} ${Destination}`)),
      new Set(["bind /repo", "volume /vscode"]),
    );
    assert.equal(mounts.find(({ Type }) => Type === "bind")?.Source, work);
    const directory = hasHost ? "/repo" : "/vscode";
    const exec = ["exec", "-i", "-u", "app", "-e", "REMOTE=1", "-w", directory, id];
    assert.equal(await ok(...exec, "sh", "-c", "id -un; echo $REMOTE; pwd"), `app\n1\n${directory}`);
    await ok("rm", "--force", "--volumes", id);
    await ok("volume", "rm", "vscode");
  });
});

describe("a client with the strict types of moby's newer module, as act is", () => {
  test("parses each address, prefix, port and time of lists, inspects, networks and events", async () => {
    const result = await runGoTests("strict", { ...daemon.clientEnv, TEST_IMAGE: "busybox" });
    assert.equal(result.code, 0, `${result.text}\n${result.errorText}`);
    assert.equal(result.text.match(/^--- PASS/gm)?.length, 2, result.text);
  });
});
