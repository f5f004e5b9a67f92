/**
 * kill -9 of frontend, backend or both while `docker start`, `run --detach` and `run --rm` start a container: who is told
 * that it worked has it running, who is told of a failure never finds it running later, and every client ends.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, describe, test } from "node:test";

import { createAgentClient } from "../../src/agent-client/client.ts";
import { onlyOn } from "../support/backend-under-test.ts";
import { FollowingClient } from "../support/following-client.ts";
import { isAlive, processOf, readOrNothing } from "../support/processes.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const directory = await mkdtemp(join(tmpdir(), "skl-lost-"));
const armed = join(directory, "step");
const reached = join(directory, "reached");
const { daemon, ok } = withDaemon({ env: await testBuildEnv(armed, reached) });
after(() => rm(directory, { recursive: true })); // Once the daemon has ended, which writes there.
const killsEach = isSoak ? 14 : 1;

/** Tells when it began, on the machine's clock of seconds, which containers have too. */
const command = ["busybox", "sh", "-c", "cut -d' ' -f1 /proc/uptime; exec sleep 1000"];
const secondsNow = (): number => Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);

type Victim = "backend" | "frontend";
const deaths: readonly (readonly Victim[])[] = [["backend"], ["frontend"], ["frontend", "backend"]];

/** A way to start a container; what it needs is made before. */
interface Way {
  readonly told: string;
  prepare(name: string): Promise<unknown>;
  args(name: string): readonly string[];
  /** The client stays attached while the container runs. */
  readonly stays?: boolean;
}

const ways: readonly Way[] = [
  {
    told: "start",
    prepare: (name) => ok("create", "--name", name, ...command),
    args: (name) => ["start", name],
  },
  {
    told: "run --detach",
    prepare: async () => undefined,
    args: (name) => ["run", "--detach", "--name", name, ...command],
  },
  {
    told: "run --rm",
    prepare: async () => undefined,
    args: (name) => ["run", "--rm", "--name", name, ...command],
    stays: true,
  },
];

/** The container's state, and its reason of a failure; undefined: there is none. */
async function look(name: string): Promise<{ readonly status: string; readonly error: string } | undefined> {
  const { code, text } = await daemon.docker(
    ...["inspect", "--format", "{{.State.Status}} {{.State.Error}}", name],
  );
  if (code !== 0) {
    return undefined;
  }
  const [status = ""] = text.split(" ");
  return { status, error: text.slice(status.length + 1) };
}

/** When the container's runs began. */
async function beginsOf(name: string): Promise<readonly string[]> {
  const { text } = await daemon.docker("logs", name);
  return text.split("\n").filter(Boolean);
}

const isRunning = (name: string) => async () => (await look(name))?.status === "running";
const isBack = async () => (await daemon.docker("version")).code === 0;

/** Whether a client has been told that its container runs. */
async function isTold(client: FollowingClient, { stays }: Way): Promise<boolean> {
  if (stays !== true) {
    return (await client.exitCode()) === 0;
  }
  await untilTrue(() => client.stdout !== "" || client.hasEnded);
  return client.stdout !== "";
}

/** Milliseconds that a way takes when nothing disturbs it. */
async function measure(way: Way): Promise<number> {
  const name = `undisturbed-${way.told.replaceAll(" ", "")}`;
  await way.prepare(name);
  const from = performance.now();
  const client = new FollowingClient(daemon, ...way.args(name));
  assert.ok(await isTold(client, way), client.stderr);
  const took = performance.now() - from;
  await ok("rm", "--force", name);
  await client.exitCode();
  return took;
}

/** Kills processes at once. @returns by when what they had told an agent to run has begun, in seconds of the machine's clock */
async function kill(victims: readonly Victim[]): Promise<number> {
  const pids = await Promise.all(victims.map((victim) => processOf(daemon, victim)));
  for (const pid of pids) {
    process.kill(pid, "SIGKILL");
  }
  await untilTrue(() => !pids.some(isAlive));
  for (const [index, victim] of victims.entries()) {
    await processOf(daemon, victim, pids[index]);
  }
  const begunBy = victims.includes("backend") ? secondsNow() : undefined;
  await untilTrue(isBack);
  return begunBy ?? secondsNow();
}

/** Has the backend and the frontend die as a start is to be launched. The start is undone eleven seconds later. */
async function loseStart(name: string): Promise<void> {
  await ok("create", "--name", name, ...command);
  const [backend, frontend] = [await processOf(daemon, "backend"), await processOf(daemon, "frontend")];
  await writeFile(armed, "workloads.launch.before");
  process.kill(daemon.pid, "SIGSTOP"); // Nobody starts the next ones yet.
  const client = new FollowingClient(daemon, "start", name);
  await untilTrue(() => !isAlive(backend));
  process.kill(frontend, "SIGKILL");
  await untilTrue(() => !isAlive(frontend));
  process.kill(daemon.pid, "SIGCONT");
  assert.notEqual(await client.exitCode(), 0);
  await untilTrue(isBack);
}

/** Whether the agent of a container on this machine was told to run it. */
async function isToldToRun(id: string): Promise<boolean> {
  const path = join(daemon.runDir, "c", id.slice(0, 16), "agent.sock");
  const agent = createAgentClient({ kind: "unix", path });
  try {
    const messages = agent.client.watch({})[Symbol.asyncIterator]();
    return (await messages.next()).value?.generation === 1n;
  } catch {
    return false; // It does not listen yet.
  } finally {
    agent.close();
  }
}

/** Waits until a start was undone, and starts the container anew. */
async function assertUndone(name: string): Promise<void> {
  await untilTrue(async () => /was undone before anything ran/.test((await look(name))?.error ?? ""));
  assert.equal((await look(name))?.status, "created");
  await ok("start", name);
  await untilTrue(async () => (await beginsOf(name)).length === 1);
  await ok("rm", "--force", name);
}

describe("kill -9 while a container is started", () => {
  test("of what its client waits for: it runs as the client was told, and no later", async (t) => {
    const failed: { readonly name: string; readonly told: string; readonly begunBy: number }[] = [];
    let kills = 0;
    for (const [index, way] of ways.entries()) {
      const took = await measure(way);
      for (const victims of isSoak ? deaths : [deaths[index] ?? []]) {
        for (let each = 0; each < killsEach; each++) {
          const name = `killed-${++kills}`;
          await way.prepare(name);
          const client = new FollowingClient(daemon, ...way.args(name));
          const ms = (took * (each + 0.5)) / killsEach;
          await sleep(ms);
          const begunBy = await kill(victims);
          const told = `${name}: ${way.told}, ${victims.join(" and ")}, ${ms.toFixed()} ms of ${took.toFixed()}`;
          if (await isTold(client, way)) {
            await untilTrue(isRunning(name));
            await ok("rm", "--force", name);
            await client.exitCode();
          } else {
            await client.exitCode();
            assert.notEqual(client.stderr, "", told);
            // One whose attachment alone was lost has asked the next frontend for its start, and was answered.
            const isRefused = way.stays !== true || /^docker: /m.test(client.stderr);
            failed.push({
              name,
              told: `${told}: ${client.stderr}`,
              begunBy: isRefused ? begunBy : Infinity,
            });
          }
        }
      }
    }
    await loseStart("last");
    await assertUndone("last"); // So is each that was lost before.
    for (const { name, told, begunBy } of failed) {
      const { status = "gone" } = (await look(name)) ?? {};
      const begins = status === "gone" ? [] : await beginsOf(name);
      t.diagnostic(`${status}: ${told}`);
      assert.ok(
        begins.length <= 1 && begins.every((begin) => Number(begin) <= begunBy),
        `${told}: ${begins}`,
      );
      assert.ok(begins.length === 1 || status !== "running", told);
      await daemon.docker("rm", "--force", name);
    }
    t.diagnostic(`${kills} kills, of which ${failed.length} were told as failures`);
  });

  const skip = onlyOn("local", "it holds the launch up by the host process");
  test("of the frontend while it is launched: it is undone, and can be started anew", {
    skip: skip || inSoak.skip,
  }, async () => {
    await ok("create", "--name", "launched", ...command);
    const [host, frontend] = [await processOf(daemon, "host"), await processOf(daemon, "frontend")];
    process.kill(host, "SIGSTOP");
    await rm(reached, { force: true });
    const client = new FollowingClient(daemon, "start", "launched");
    await untilTrue(() => readOrNothing(reached).includes("workloads.launch.before"));
    process.kill(frontend, "SIGKILL");
    assert.notEqual(await client.exitCode(), 0);
    process.kill(host, "SIGCONT");
    await untilTrue(isBack);
    await assertUndone("launched");
  });

  const late =
    "of both while the agent waits for an attachment: nothing begins, however late the next ones are";
  test(late, { skip: skip || inSoak.skip }, async () => {
    const id = await ok("create", "--name", "told", ...command);
    const [backend, frontend] = [await processOf(daemon, "backend"), await processOf(daemon, "frontend")];
    const host = await processOf(daemon, "host");
    process.kill(host, "SIGSTOP");
    await rm(reached, { force: true });
    const client = new FollowingClient(daemon, "start", "--attach", "told");
    await untilTrue(() => readOrNothing(reached).includes("workloads.launch.before"));
    process.kill(frontend, "SIGSTOP"); // It opens no session of the attachment.
    process.kill(host, "SIGCONT");
    await untilTrue(() => isToldToRun(id));
    process.kill(daemon.pid, "SIGSTOP"); // Nobody starts the next ones yet.
    for (const pid of [backend, frontend]) {
      process.kill(pid, "SIGKILL");
    }
    assert.notEqual(await client.exitCode(), 0);
    const waits = /neither an attachment nor a caller is there: the start waits/;
    const log = join(daemon.stateDir, "containers", id, "shim.log");
    await untilTrue(() => waits.test(readOrNothing(log)));
    process.kill(daemon.pid, "SIGCONT");
    await untilTrue(isBack);
    await assertUndone("told");
  });
});
