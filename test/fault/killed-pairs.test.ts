/**
 * kill -9 of one process after another under clients with streams: an exit code of 0 is what the process said, with its
 * whole output, and nobody waits for ever. `npm test` has two pairs, `npm run soak` all.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FollowingClient } from "../support/following-client.ts";
import { type DaemonRole, findProcess, findShim, isAlive, processOf } from "../support/processes.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { isSoak } from "../support/soak.ts";

const { daemon } = withDaemon();

type Victim = Exclude<DaemonRole, "builder"> | "shim" | "supervisor";
const victims: readonly Victim[] = ["frontend", "backend", "host", "forwarder", "shim", "supervisor"];

const sample: readonly (readonly [Victim, Victim])[] = [
  ["frontend", "shim"],
  ["forwarder", "frontend"],
];
const pairs = isSoak
  ? victims.flatMap((first) =>
      victims.filter((second) => second !== first).map((second) => [first, second] as const),
    )
  : sample;

/** Prints numbers until it is told to end. */
const counter = "n=0; until [ -e /go ]; do echo $n; n=$((n + 1)); usleep 2000; done; echo end";

/** Kills a process, and waits until nothing of it is left. */
async function kill(victim: Victim, container: string): Promise<void> {
  const pid =
    victim === "shim"
      ? findShim(daemon, container)
      : victim === "supervisor"
        ? daemon.pid
        : await processOf(daemon, victim);
  assert.ok(pid !== undefined, `no ${victim}`);
  process.kill(pid, "SIGKILL");
  await untilTrue(() => !isAlive(pid));
}

/** Has everything run again, and waits until it answers. */
async function serve(victim: Victim): Promise<void> {
  if (victim === "supervisor") {
    await untilTrue(() => findProcess(daemon, "frontend") === undefined);
    await daemon.launch();
  }
  await untilTrue(async () => (await daemon.docker("version")).code === 0);
}

describe("kill -9 of one after the other", () => {
  for (const [first, second] of pairs) {
    test(`${first}, then ${second}: no client is told 0 without its whole output, and each ends`, async (t) => {
      t.after(() => daemon.docker("rm", "--force", "main"));
      const run = new FollowingClient(daemon, "run", "--name=main", "busybox", "sh", "-c", counter);
      await run.receives();
      const id = await daemon.ok("inspect", "--format={{.Id}}", "main");
      const following = [
        ["exec", "main", "sh", "-c", counter],
        ["exec", "-i", "main", "sh", "-c", counter],
        ["logs", "--follow", "main"],
        ["attach", "--no-stdin", "main"],
      ].map((args) => new FollowingClient(daemon, ...args));
      const clients = [run, ...following];
      await Promise.all(clients.map((client) => client.receives()));

      await kill(first, id);
      await serve(first);
      await kill(second, id);
      await serve(second);

      await daemon.docker("exec", "main", "touch", "/go"); // It may have ended.
      const codes = await Promise.all(clients.map((client) => client.exitCode()));
      const isOver = [first, second].includes("shim");
      for (const [index, client] of clients.entries()) {
        const name = ["run", "exec", "exec -i", "logs", "attach"][index];
        const told = `${name} ended with ${codes[index]}: ${client.stderr}`;
        if (isOver) {
          assert.notEqual(codes[index], 0, told);
        } else if (codes[index] === 0 && name !== "attach") {
          const lines = client.stdout.trimEnd().split("\n");
          assert.deepEqual(lines, [...lines.slice(0, -1).map((_, line) => String(line)), "end"], told);
        } else if (codes[index] === 0) {
          assert.match(client.stdout, /end\n$/, told);
        }
      }
    });
  }
});
