/**
 * The Docker socket inside a task, `ecs.inner_socket`: what a container does by it, and what it does not get at. All of it with
 * SOCKERLESS_SOAK=1 (`npm run soak -- "Docker sockets in containers"`), else a sample.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { dockerArchive } from "../support/images.ts";
import { InnerClient, relayArguments, relayImage } from "../support/inner-client.ts";
import { processOf } from "../support/processes.ts";
import { untilTrue } from "../support/until.ts";
import { isSoak } from "../support/soak.ts";

const skip = isSoak ? false : "only in the soak";

async function loadRelay({ daemon, directory }: EcsDaemon): Promise<void> {
  const archive = join(directory, "relay.tar");
  await writeFile(
    archive,
    await dockerArchive([{ image: await relayImage(), tags: ["relay:1", "others:secret"] }]),
  );
  await daemon.ok("load", "--input", archive);
}

describe("a container with a Docker socket of its own", () => {
  let jobId: string;
  let secretId: string;

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);

  const { ecs, job } = duringTests(async (resources) => {
    const ecs = resources.use(await EcsDaemon.start({ ecs: { inner_socket: "own" } }));
    const { daemon } = ecs;
    await loadRelay(ecs);
    await daemon.ok("network", "create", "secretnet");
    await daemon.ok("volume", "create", "secretvol");
    secretId = await daemon.ok(
      ...["run", "--detach", "--name", "secret", "--network", "secretnet", "--network-alias", "db"],
      ...["--volume", "secretvol:/data", "--env", "PASSWORD=swordfish", "relay:1", "sleep", "100000"],
    );
    await daemon.ok("network", "create", "jobnet");
    jobId = await daemon.ok("run", "--detach", "--name", "job", ...relayArguments, "relay:1");
    await daemon.ok("network", "connect", "jobnet", "job");
    return { ecs, job: resources.use(await InnerClient.of(daemon, "job")) };
  });

  it("runs others, and is told of them and of itself alone", async () => {
    assert.equal(
      await job.ok("run", "--rm", "--name", "first", "relay:1", "echo", "made inside"),
      "made inside",
    );
    const child = await job.ok(
      ...["run", "--detach", "--name", "child", "--env", "A=b", "relay:1", "sleep", "100000"],
    );
    assert.equal(
      await job.ok("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"),
      `${child} child\n${jobId} job`,
    );
    assert.equal(await job.ok("ps", "--last", "1", "--format", "{{.Names}}"), "child");
    assert.equal(await job.ok("exec", "child", "sh", "-c", "echo $A; cat > /file; cat /file"), "b");
    const fed = await job.docker(["exec", "--interactive", "child", "cat"], { input: "through\n" });
    assert.equal(fed.text, "through");
    const copied = await callApi(job.socket, "GET", "/v1.51/containers/child/archive?path=/file");
    assert.equal(copied.status, 200);
    assert.match(
      await job.ok("info", "--format", "{{.Containers}} {{.ContainersRunning}} {{.Images}}"),
      /^2 2 1$/,
    );
    assert.equal(await job.ok("images", "--format", "{{.Repository}}:{{.Tag}}"), "relay:1");
    const usage = JSON.parse((await callApi(job.socket, "GET", "/v1.51/system/df")).text) as {
      Containers: { Id: string }[];
      Volumes: { Name: string }[];
    };
    assert.deepEqual(new Set(usage.Containers.map(({ Id }) => Id)), new Set([child, jobId]));
    assert.deepEqual(usage.Volumes, []);
    await job.ok("rm", "--force", "child");
    assert.equal(await ok("ps", "--all", "--quiet", "--filter", "name=child"), "");
    assert.match((await job.docker(["rm", "--force", "secret"])).errorText, /^$|No such container/);
    assert.match((await job.docker(["exec", "secret", "env"])).errorText, /No such container: secret/);
    assert.equal(await ok("exec", "secret", "sh", "-c", "echo $PASSWORD"), "swordfish");
  });

  it("has networks and volumes of its own, in which its containers meet", { skip }, async () => {
    await job.ok("network", "create", "mine");
    await job.ok("volume", "create", "cache");
    await job.ok(
      ...["run", "--detach", "--name", "server", "--network", "mine", "--network-alias", "web"],
      ...["--volume", "cache:/data", "--volume", "auto:/auto", "relay:1"],
      ...["sh", "-c", "echo kept > /data/file; while true; do echo hello | nc -l -p 80; done"],
    );
    const client = ["run", "--rm", "--network", "mine", "--volume", "cache:/data", "relay:1"];
    await untilTrue(async () => (await job.docker([...client, "nc", "web", "80"])).text === "hello");
    assert.equal(await job.ok(...client, "cat", "/data/file"), "kept");
    assert.equal(await job.ok("network", "ls", "--format", "{{.Name}}"), "bridge\njobnet\nmine");
    assert.equal(await job.ok("volume", "ls", "--quiet"), "auto\ncache");
    const { Containers } = JSON.parse(
      await job.ok("network", "inspect", "--format", "{{json .}}", "bridge"),
    ) as {
      Containers: Record<string, unknown>;
    };
    assert.deepEqual(Object.keys(Containers), [jobId]);
    await job.ok("rm", "--force", "server");
    await job.ok("network", "prune", "--force");
    await job.ok("volume", "prune", "--all", "--force");
    assert.equal(await ok("network", "ls", "--quiet", "--filter", "name=mine"), "");
    assert.equal(await ok("volume", "ls", "--quiet"), "secretvol");
    assert.match(await ok("network", "ls", "--format", "{{.Name}}"), /secretnet/);
  });

  it("is told of its own events alone", { skip }, async () => {
    const { Time: since } = JSON.parse(await ok("info", "--format", '{"Time":"{{.SystemTime}}"}')) as {
      Time: string;
    };
    await ok("run", "--rm", "--name", "foreign", "--network", "secretnet", "relay:1", "true");
    await ok("volume", "create", "foreignvol");
    await ok("volume", "rm", "foreignvol");
    await job.ok("run", "--rm", "--name", "own", "relay:1", "true");
    const until = await ok("info", "--format", "{{.SystemTime}}");
    const told = await job.ok("events", "--since", since, "--until", until, "--format", "{{json .}}");
    assert.doesNotMatch(told, /foreign|secret/);
    assert.match(told, /"Action":"create".*"name":"own"|"name":"own"/);
    for (const line of told.split("\n")) {
      const { Actor } = JSON.parse(line) as { Actor: { ID: string; Attributes: Record<string, string> } };
      const { Attributes } = Actor;
      assert.ok(
        Attributes["sockerless.inner-socket"] === jobId ||
          Actor.ID === jobId ||
          Attributes["container"] !== undefined,
        line,
      );
    }
  });

  it("does not get at what is another's, whatever it calls", { skip }, async () => {
    const short = secretId.slice(0, 12);
    const create = (body: Record<string, unknown>, name = "bad"): readonly [string, string, unknown] => [
      "POST",
      `/containers/create?name=${name}`,
      { Image: "relay:1", Cmd: ["true"], ...body },
    ];
    const host = (HostConfig: Record<string, unknown>): readonly [string, string, unknown] =>
      create({ HostConfig });
    const execId = await (async () => {
      const body = { Cmd: ["sleep", "1000"] };
      const made = await callApi(ecs.daemon.socket, "POST", "/v1.51/containers/secret/exec", { body });
      return (made.json() as { Id: string }).Id;
    })();
    const ofContainer = ["secret", short].flatMap((name): (readonly [string, string, unknown?])[] => [
      ["GET", `/containers/${name}/json`],
      ["GET", `/containers/${name}/logs?stdout=1`],
      ["GET", `/containers/${name}/top`],
      ["GET", `/containers/${name}/stats?stream=0`],
      ["GET", `/containers/${name}/changes`],
      ["GET", `/containers/${name}/export`],
      ["GET", `/containers/${name}/archive?path=/etc/passwd`],
      ["HEAD", `/containers/${name}/archive?path=/etc/passwd`],
      ["PUT", `/containers/${name}/archive?path=/`, ""],
      ["GET", `/containers/${name}/attach/ws?stream=1`],
      ["POST", `/containers/${name}/attach?stream=1&stdout=1`],
      ["POST", `/containers/${name}/exec`, { Cmd: ["true"] }],
      ["POST", `/containers/${name}/start`],
      ["POST", `/containers/${name}/stop`],
      ["POST", `/containers/${name}/kill`],
      ["POST", `/containers/${name}/restart`],
      ["POST", `/containers/${name}/pause`],
      ["POST", `/containers/${name}/unpause`],
      ["POST", `/containers/${name}/wait`],
      ["POST", `/containers/${name}/resize?h=1&w=1`],
      ["POST", `/containers/${name}/rename?name=taken`],
      ["POST", `/containers/${name}/update`, { CpuShares: 2 }],
      ["DELETE", `/containers/${name}?force=1`],
    ]);
    const missing: readonly (readonly [string, string, unknown?])[] = [
      ...ofContainer,
      ["GET", `/containers/json?filters=${encodeURIComponent('{"before":["secret"]}')}`],
      ["GET", `/exec/${execId}/json`],
      ["POST", `/exec/${execId}/start`, { Detach: true }],
      ["POST", `/exec/${execId}/resize?h=1&w=1`],
      ["GET", "/networks/secretnet"],
      ["DELETE", "/networks/secretnet"],
      ["DELETE", "/networks/jobnet"], // It is in it, and has not made it.
      ["POST", "/networks/secretnet/connect", { Container: "job" }],
      ["POST", "/networks/jobnet/connect", { Container: "secret" }],
      ["POST", "/networks/secretnet/disconnect", { Container: "job" }],
      ["POST", "/networks/secretnet/disconnect", { Container: "secret", Force: true }],
      ["GET", "/volumes/secretvol"],
      ["DELETE", "/volumes/secretvol"],
      ["DELETE", "/volumes/secretvol?force=1"],
      ["POST", "/volumes/create", { Name: "secretvol" }],
      ["GET", "/images/nothing:1/json"],
      host({ Binds: ["secretvol:/data"] }),
      host({ Mounts: [{ Type: "volume", Source: "secretvol", Target: "/data" }] }),
      host({ Mounts: [{ Type: "image", Source: "nothing:1", Target: "/data" }] }),
      host({ VolumesFrom: ["secret"] }),
      host({ VolumesFrom: [`${short}:ro`] }),
      host({ NetworkMode: "container:secret" }),
      host({ NetworkMode: `container:${secretId}` }),
      host({ IpcMode: "container:secret" }),
      host({ PidMode: "container:secret" }),
      host({ Links: ["secret:db"] }),
      host({ NetworkMode: "secretnet" }),
      host({ NetworkMode: "host" }),
      create({ NetworkingConfig: { EndpointsConfig: { bridge: {}, secretnet: {} } } }),
      create({ Image: "nothing:1" }),
    ];
    const refused: readonly (readonly [string, string, unknown?])[] = [
      host({ Privileged: true }),
      host({ PidMode: "host" }),
      host({ IpcMode: "host" }),
      host({ UTSMode: "host" }),
      host({ UsernsMode: "host" }),
      host({ CgroupnsMode: "host" }),
      host({ CgroupParent: "/x" }),
      host({ Runtime: "other" }),
      host({ Devices: [{ PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "r" }] }),
      host({ DeviceCgroupRules: ["c 1:3 r"] }),
      host({ DeviceRequests: [{ Count: 1, Capabilities: [["gpu"]] }] }),
      host({
        Mounts: [
          {
            ...{ Type: "volume", Source: "fresh", Target: "/data" },
            VolumeOptions: { DriverConfig: { Name: "local", Options: { path: "/" } } },
          },
        ],
      }),
      ["POST", "/volumes/create", { Name: "fresh", DriverOpts: { path: "/" } }],
      ["POST", "/networks/create", { Name: "fresh", Options: { a: "b" } }],
      ["POST", "/networks/create", { Name: "fresh", ConfigFrom: { Network: "secretnet" } }],
      // A name or an address of its choice in a network of others.
      create({
        HostConfig: { NetworkMode: "jobnet" },
        NetworkingConfig: { EndpointsConfig: { jobnet: { Aliases: ["db"] } } },
      }),
      create({ HostConfig: { NetworkMode: "jobnet" } }, "github.com"),
      ["POST", "/containers/job/rename?name=db.secretnet"],
      ["POST", "/images/others:secret/tag?repo=other&tag=1"],
      ["POST", "/images/relay:1/tag?repo=busybox&tag=latest"],
      ["POST", "/images/relay:1/push"],
      ["DELETE", "/images/others:secret?force=1"],
      ["GET", "/images/relay:1/get"],
      ["GET", "/images/get?names=relay:1"],
      ["POST", "/images/create?fromSrc=-&repo=x", ""],
      ["POST", "/images/create?fromSrc=http://127.0.0.1:1/&repo=x"],
      ["POST", "/commit?container=job&repo=busybox&tag=latest"],
      ["GET", "/distribution/relay:1/json"],
    ];
    const unbuilt: readonly (readonly [string, string, unknown?])[] = [
      ["POST", "/build", ""],
      ["POST", "/session"],
      ["POST", "/grpc"],
      ["POST", "/build/cancel?id=x"],
    ];
    const wrong: string[] = [];
    for (const [calls, statuses] of [
      [missing, [404, 400]],
      [refused, [403, 400]],
      [unbuilt, [501]],
    ] as const) {
      for (const [method, path, body] of calls) {
        const answer = await callApi(job.socket, method, `/v1.51${path}`, body === undefined ? {} : { body });
        const hasTold = answer.text.includes("swordfish") || answer.text.includes(secretId.slice(12));
        const asked = path.includes(secretId) || JSON.stringify(body ?? "").includes(secretId);
        if (!(statuses as readonly number[]).includes(answer.status) || (hasTold && !asked)) {
          wrong.push(`${method} ${path} ${JSON.stringify(body)}: ${answer.status} ${answer.text}`);
        }
      }
    }
    assert.deepEqual(wrong, []);
    for (const [path, body] of [
      ["/containers/create?name=secret", { Image: "relay:1" }],
      ["/networks/create", { Name: "secretnet" }],
    ] as const) {
      const taken = await callApi(job.socket, "POST", `/v1.51${path}`, { body });
      assert.equal(taken.status, 409);
      assert.ok(!taken.text.includes(secretId));
    }
    const bind = await callApi(job.socket, "POST", "/v1.51/containers/create", {
      body: { Image: "relay:1", HostConfig: { Binds: ["/etc:/host"] } },
    });
    assert.equal(bind.status, 400);
    assert.match(bind.text, /bind source path does not exist: \/etc/);

    const state = "{{.State.Running}} {{.Name}} {{.RestartCount}} {{json .State.Paused}}";
    assert.equal(await ok("inspect", "--format", state, "secret"), "true /secret 0 false");
    assert.equal(await ok("exec", "secret", "sh", "-c", "echo $PASSWORD"), "swordfish");
    assert.match(await ok("images", "--format", "{{.Repository}}:{{.Tag}}"), /others:secret/);
    assert.equal(await ok("volume", "ls", "--quiet"), "secretvol");
    assert.equal(await ok("ps", "--all", "--quiet", "--filter", "name=bad"), "");
    assert.equal(await job.ok("ps", "--all", "--format", "{{.Names}}"), "job");
  });

  it("cannot make itself another's, nor another's its own, by a label", { skip }, async () => {
    const label = `sockerless.inner-socket=${secretId}`;
    const id = await job.ok("create", "--name", "labelled", "--label", label, "--label", "mine=1", "relay:1");
    const labels = await ok("inspect", "--format", "{{json .Config.Labels}}", id);
    assert.deepEqual(JSON.parse(labels), { "sockerless.inner-socket": jobId, mine: "1" });
    await job.ok("rm", id);
  });

  it("prunes no image of others", { skip }, async () => {
    const label = `sockerless.inner-socket=${jobId}`; // As a client of the whole API may write it.
    await ok("commit", "--change", `LABEL ${label}`, "secret", "saved:1");
    assert.match(await job.ok("system", "prune", "--all", "--force"), /Total reclaimed space: 0B/);
    const names = await ok("images", "--format", "{{.Repository}}:{{.Tag}}");
    assert.match(names, /relay:1/);
    assert.match(names, /saved:1/);
    await ok("rmi", "saved:1");
  });

  it("has its reaper act for it, and nobody else", { skip }, async () => {
    const session = "org.testcontainers.sessionId=one";
    await ok("volume", "create", "--label", session, "notreaped");
    await job.ok("volume", "create", "--label", session, "reaped");
    await job.ok("run", "--detach", "--name", "reapedone", "--label", session, "relay:1", "sleep", "100000");
    await job.ok(
      ...["run", "--detach", "--rm", "--name", "ryuk", "--label", "org.testcontainers.ryuk=true"],
      ...["--volume", "/var/run/docker.sock:/var/run/docker.sock", "--env", "RYUK_RECONNECTION_TIMEOUT=1s"],
      ...["--env", "RYUK_CONNECTION_TIMEOUT=300s", "relay:1", "/ryuk"],
    );
    const tell = `echo 'label=${session}' | nc -w 5 127.0.0.1 8080`;
    await untilTrue(async () => (await job.docker(["exec", "ryuk", "sh", "-c", tell])).text.includes("ACK"));
    await untilTrue(async () => (await job.ok("ps", "--all", "--format", "{{.Names}}")) === "job");
    assert.equal(await ok("volume", "ls", "--quiet"), "notreaped\nsecretvol");
    await ok("volume", "rm", "notreaped");
  });

  it("serves on when backend and frontend were killed", { skip }, async () => {
    await job.ok("run", "--detach", "--name", "before", "relay:1", "sleep", "100000");
    process.kill(await processOf(ecs.daemon, "backend"), "SIGKILL");
    process.kill(await processOf(ecs.daemon, "frontend"), "SIGKILL");
    await untilTrue(async () => {
      const { code, text } = await job.docker(["ps", "--format", "{{.Names}}"]);
      return code === 0 && text === "before\njob";
    });
    assert.equal((await callApi(job.socket, "GET", "/v1.51/containers/secret/json")).status, 404);
    await job.ok("rm", "--force", "before");
  });

  it("takes with it what was made through it, but for what is to stay", { skip }, async () => {
    await job.ok("network", "create", "left");
    await job.ok(
      ...["run", "--detach", "--name", "gone", "--network", "left", "--volume", "leftvol:/data", "relay:1"],
      ...["sleep", "1000"],
    );
    await job.ok("volume", "create", "--label", "sockerless.inner-socket.keep", "stays");
    await ok("rm", "--force", "job");
    await untilTrue(async () => {
      const [names, volumes, networks] = await Promise.all([
        ok("ps", "--all", "--format", "{{.Names}}"),
        ok("volume", "ls", "--quiet"),
        ok("network", "ls", "--format", "{{.Name}}"),
      ]);
      return names === "secret" && volumes === "secretvol\nstays" && !networks.includes("left");
    });
  });
});

describe("a container with a Docker socket that has no limits", { skip }, () => {
  it("may do what the frontend's clients may", async () => {
    await using ecs = await EcsDaemon.start({ ecs: { inner_socket: "full" } });
    await loadRelay(ecs);
    await ecs.daemon.ok("run", "--detach", "--name", "other", "relay:1", "sleep", "100000");
    await ecs.daemon.ok("run", "--detach", "--name", "job", ...relayArguments, "relay:1");
    await using job = await InnerClient.of(ecs.daemon, "job");
    assert.equal(await job.ok("ps", "--format", "{{.Names}}"), "job\nother");
    await job.ok("rm", "--force", "other");
    await job.ok("tag", "relay:1", "tagged:1");
    assert.equal(await ecs.daemon.ok("ps", "--format", "{{.Names}}"), "job");
  });
});
