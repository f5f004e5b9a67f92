/**
 * kill -9 between a client's attach, or in its start, and the container's process: the client is told, in the stream that
 * it lost and by its wait, and never has the exit code of a container whose output it did not get.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import { WebSocket } from "ws";
import { callApi } from "../support/call-api.ts";
import { FollowingClient } from "../support/following-client.ts";
import {
  type DaemonRole,
  findProcess,
  isAlive,
  openFiles,
  killAndAwaitNext,
  processOf,
} from "../support/processes.ts";
import { framesOf, hijackRequest, RawClient } from "../support/raw-client.ts";
import { inSoak, isSoak, sampled } from "../support/soak.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon } = withDaemon();

/** Milliseconds after the request at which a process is killed: a container is started in some 60. */
const moments = isSoak ? Array.from({ length: 40 }, (_, each) => each * 2) : [4];

/** The same after the start of a client that creates, attaches, waits and starts. */
const runMoments = isSoak ? Array.from({ length: 24 }, (_, each) => each * 10) : [50];
const runOptions: readonly (readonly string[])[] = [[], ["--rm"], ["--tty"], ["--rm", "--interactive"]];

type Victim = Exclude<DaemonRole, "builder"> | "supervisor";

const deaths: readonly (readonly Victim[])[] = [
  ["frontend"],
  ["backend"],
  ["frontend", "backend"],
  ["supervisor"],
];

/** Kills processes at once, and waits until the daemon answers again. */
async function killAll(victims: readonly Victim[]): Promise<void> {
  const pids = await Promise.all(
    victims.map((victim) => (victim === "supervisor" ? daemon.pid : processOf(daemon, victim))),
  );
  for (const pid of pids) {
    process.kill(pid, "SIGKILL");
  }
  await untilTrue(() => !pids.some(isAlive));
  if (victims.includes("supervisor")) {
    await untilTrue(() => findProcess(daemon, "frontend") === undefined);
    await daemon.launch();
  }
  await untilTrue(async () => (await daemon.docker("version")).code === 0);
}

/** A client that is attached to a container, as this process. */
async function attach(id: string): Promise<RawClient> {
  const streams = "stream=1&stdout=1&stderr=1";
  const client = new RawClient(daemon.socket).send(
    hijackRequest(`/v1.51/containers/${id}/attach?${streams}`),
  );
  await client.answered();
  return client;
}

/** A wait that stands, as this process. @returns its body, which fails where it is cut */
async function wait(id: string, condition: string): Promise<{ readonly body: Promise<string> }> {
  const path = `/v1.51/containers/${id}/wait?condition=${condition}`;
  const sent = request({ socketPath: daemon.socket, method: "POST", path, agent: false }).end();
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  const body = text(response);
  body.catch(() => undefined);
  return { body };
}

const start = (id: string) => callApi(daemon.socket, "POST", `/v1.51/containers/${id}/start`);

/** The client was told in its stream, as an error. */
async function assertTold(client: RawClient): Promise<void> {
  await client.end();
  client.close();
  const [last] = framesOf(client.body);
  assert.equal(last?.channel, 3, client.body.toString());
  assert.match(String(last.data), /^Error attaching: /);
}

describe("kill -9 between a client's attach and its start", () => {
  for (const victims of deaths) {
    test(
      `of ${victims.join(" and ")}: the stream ends with an error, and the wait that stands breaks`,
      sampled(victims.length > 1),
      async () => {
        const id = await daemon.ok("create", "busybox", "echo", "said");
        const client = await attach(id);
        const { body } = await wait(id, "next-exit");
        await killAll(victims);
        await assertTold(client);
        await assert.rejects(body);
        await start(id);
        assert.equal(await daemon.ok("wait", id), "0", "who has not attached waits as ever");
        assert.deepEqual(JSON.parse(await (await wait(id, "not-running")).body), { StatusCode: 0 });
        await daemon.ok("rm", "--force", id);
      },
    );
  }

  for (const victim of ["frontend", "backend"] as const) {
    test(
      `of the ${victim}: a WebSocket ends without its closing, and the wait that stands breaks`,
      sampled(victim === "backend"),
      async () => {
        const id = await daemon.ok("create", "busybox", "echo", "said");
        const path = `/v1.51/containers/${id}/attach/ws?stream=1&stdout=1`;
        const client = new WebSocket(`ws+unix:${daemon.socket}:${path}`);
        const closed = once(client, "close") as Promise<[number]>;
        await once(client, "open");
        const { body } = await wait(id, "next-exit");
        await killAll([victim]);
        assert.equal((await closed)[0], 1006, "a connection that was lost");
        await start(id);
        await assert.rejects(body);
        await daemon.ok("rm", "--force", id);
      },
    );
  }

  test("of the forwarder and then the frontend: the next forwarder has the stream too", async () => {
    const id = await daemon.ok("create", "busybox", "echo", "said");
    const client = await attach(id);
    await killAndAwaitNext(daemon, "forwarder");
    const { body } = await wait(id, "next-exit");
    await killAll(["frontend"]);
    await assertTold(client);
    await assert.rejects(body);
    await daemon.ok("rm", "--force", id);
  });

  test("of the forwarder, as it is given the stream: the output comes, or an error", async () => {
    const id = await daemon.ok("create", "busybox", "sh", "-c", "echo said; exit 42");
    const client = await attach(id);
    const forwarder = await processOf(daemon, "forwarder");
    process.kill(forwarder, "SIGSTOP");
    try {
      await start(id);
      await sleep(500);
    } finally {
      process.kill(forwarder, "SIGKILL");
    }
    await client.end();
    client.close();
    const [first] = framesOf(client.body);
    const isWhole = first?.channel === 1 && String(first.data) === "said\n";
    assert.ok(isWhole || first?.channel === 3, `${first?.channel}: ${String(first?.data)}`);
    await daemon.ok("rm", "--force", id);
  });

  test("of the forwarder before the wait, and of the next as it is given the stream: the wait breaks", async () => {
    const id = await daemon.ok("create", "busybox", "sh", "-c", "echo said; exit 42");
    const client = await attach(id);
    const former = await processOf(daemon, "forwarder");
    process.kill(former, "SIGKILL");
    await untilTrue(() => !isAlive(former));
    await sleep(20); // The frontend knows, and has not started the next one.
    const { body } = await wait(id, "next-exit");
    const forwarder = await processOf(daemon, "forwarder", former);
    process.kill(forwarder, "SIGSTOP");
    try {
      await start(id);
      await sleep(500);
    } finally {
      process.kill(forwarder, "SIGKILL");
    }
    await assert.rejects(body);
    await client.end();
    client.close();
    await daemon.ok("rm", "--force", id);
  });

  test("an attachment that its client has left breaks no wait of it", async () => {
    const id = await daemon.ok("create", "busybox", "true");
    const client = await attach(id);
    const { body } = await wait(id, "next-exit");
    client.close();
    await daemon.ok("start", id);
    assert.deepEqual(JSON.parse(await body), { StatusCode: 0 });
    await daemon.ok("rm", id);
  });

  test("of the backend: a wait that comes later breaks too, once", async () => {
    const id = await daemon.ok("create", "--tty", "busybox", "echo", "said");
    const client = await attach(id);
    await killAll(["backend"]);
    await client.end();
    client.close();
    await assert.rejects((await wait(id, "next-exit")).body);
    const { body } = await wait(id, "next-exit");
    await start(id);
    assert.deepEqual(JSON.parse(await body), { StatusCode: 0 });
    await daemon.ok("rm", "--force", id);
  });

  test("of the backend, before it has read a wait: that breaks too", inSoak, async () => {
    const id = await daemon.ok("create", "--tty", "busybox", "echo", "said");
    const client = await attach(id);
    await daemon.ok("run", "--rm", "busybox", "true"); // The forwarder has a connection to the backend.
    const [backend, forwarder] = [await processOf(daemon, "backend"), await processOf(daemon, "forwarder")];
    process.kill(backend, "SIGSTOP");
    const before = new Set(openFiles(forwarder));
    const path = `/v1.51/containers/${id}/wait?condition=next-exit`;
    const waiting = new RawClient(daemon.socket).send(`POST ${path} HTTP/1.1\r\nHost: d\r\n\r\n`);
    try {
      // Connections of earlier clients are still being closed.
      await untilTrue(() => openFiles(forwarder).some((each) => !before.has(each)));
      await sleep(50); // Its call is on the way.
    } finally {
      process.kill(backend, "SIGKILL");
    }
    await client.end();
    client.close();
    await start(id);
    await waiting.end();
    const answer = waiting.bytes.toString();
    assert.match(answer, /^HTTP\/1.1 200 OK/);
    assert.doesNotMatch(answer, /StatusCode/);
    waiting.close();
    await daemon.ok("rm", "--force", id);
  });
});

describe("kill -9 in a start", () => {
  test(
    "of the frontend, before it has read it: a wait breaks, unless the container runs",
    inSoak,
    async () => {
      const [lost, started] = [
        await daemon.ok("create", "--rm", "busybox", "true"),
        await daemon.ok("create", "busybox", "sleep", "1000"),
      ];
      const [cut, told] = [await wait(lost, "removed"), await wait(started, "next-exit")];
      await start(started);
      const client = new RawClient(daemon.socket).send("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n");
      await client.answered();
      const frontend = await processOf(daemon, "frontend");
      process.kill(frontend, "SIGSTOP");
      client.send(`POST /v1.51/containers/${lost}/start HTTP/1.1\r\nHost: d\r\n\r\n`);
      await killAll(["frontend"]);
      await assert.rejects(cut.body);
      await daemon.ok("kill", started);
      assert.deepEqual(JSON.parse(await told.body), { StatusCode: 137 });
      client.close();
      await daemon.ok("rm", "--force", lost, started);
    },
  );

  for (const victim of ["frontend", "backend"] as const) {
    test(`of the ${victim}, at ${moments.length} moments: a wait for the removal ends, and what has failed does not run`, async () => {
      for (const ms of moments) {
        const id = await daemon.ok("create", "--rm", "busybox", "sleep", "1000");
        const { body } = await wait(id, "removed");
        const pid = await processOf(daemon, victim);
        const started = start(id).then(
          ({ status }) => status,
          () => "cut",
        );
        await sleep(ms);
        process.kill(pid, "SIGKILL");
        await untilTrue(() => !isAlive(pid));
        await processOf(daemon, victim, pid);
        const answer = await started;
        await untilTrue(async () => (await daemon.docker("version")).code === 0);
        if (answer === 204) {
          await daemon.ok("kill", id);
          assert.deepEqual(JSON.parse(await body), { StatusCode: 137 }, `${ms} ms`);
          continue;
        }
        await Promise.allSettled([body]);
        const { code, text: status } = await daemon.docker("inspect", "--format={{.State.Status}}", id);
        const hadBegun = victim === "frontend" && status === "running"; // Before the frontend died.
        assert.ok(code !== 0 || status === "created" || hadBegun, `${status} after ${ms} ms: ${answer}`);
        await daemon.docker("rm", "--force", id);
      }
    });
  }
});

describe("kill -9 at any moment of docker run", () => {
  for (const victims of isSoak ? deaths : deaths.slice(0, 1)) {
    test(`of ${victims.join(" and ")}: it ends, with 0 only if its whole output came`, async () => {
      for (const [index, ms] of runMoments.entries()) {
        const options = runOptions[index % runOptions.length] ?? [];
        const client = new FollowingClient(daemon, "run", ...options, "busybox", "echo", "said");
        await sleep(ms);
        await killAll(victims);
        const code = await client.exitCode();
        const told = `run ${options.join(" ")}, ${ms} ms: ${code}, ${client.stderr}`;
        assert.ok(code !== 0 || client.stdout.trim() === "said", told);
        assert.ok(code === 0 || client.stderr !== "" || client.stdout !== "", told);
      }
      await daemon.ok("container", "prune", "--force");
    });
  }
});
