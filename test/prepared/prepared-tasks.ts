/**
 * Containers that start in tasks which were prepared for them: in what, and when not. Each cloud's own test calls the suite; on
 * ECS a sample of it is in `npm test`.
 */
import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { before, describe, it } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { runSockerless } from "../support/run-sockerless.ts";
import { inSoak } from "../support/soak.ts";
import { untilTrue } from "../support/until.ts";
import { answersIn, claimedIn, type PoolCloudKind, type SeenTask, untilWaiting } from "./pool-cloud.ts";

/** Time that the simulated cloud takes for a task, beyond what it really takes. */
const cloudMs = 6_000;

export function preparedTasks({ open, otherOption, without, isMadeWithNetworks }: PoolCloudKind): void {
  describe("prepared tasks", { skip: without }, () => {
    const cloud = duringTests(() => open({ cloudMs }));

    before(async () => {
      await ok("network", "create", "ci");
      await startWith({ mode: "fixed", images: ["busybox=2", "busybox=1 cpus=0.5 network=ci"] });
    });

    const ok = (...args: string[]): Promise<string> => cloud.daemon.ok(...args);
    const running = (): Promise<readonly SeenTask[]> => cloud.running();
    const untilPrepared = (count: number): Promise<void> => untilWaiting(cloud, count);
    /** Starts the backend anew with another pool. */
    const startWith = async (pool: object): Promise<void> => {
      const { configFile, daemon } = cloud;
      await daemon.shutDown();
      await writeFile(
        configFile,
        JSON.stringify({ ...JSON.parse(await readFile(configFile, "utf8")), pool }),
      );
      await daemon.launch();
    };
    const phases = async (container: string): Promise<string[]> => {
      const told = JSON.parse(await ok("inspect", "--format", "{{json .StartPhases}}", container)) as {
        readonly Name: string;
      }[];
      return told.map(({ Name }) => Name);
    };
    const why = (container: string): Promise<string> =>
      runSockerless("why", "--host", cloud.daemon.host, container);
    const claimed = ["accepted", "definition", "claim", "process"];

    it("wait, and know nothing of a container", async () => {
      await untilPrepared(3);
      for (const { told } of await running()) {
        assert.doesNotMatch(told, /SOCKERLESS_GENERATION|sockerless-container|sockerless\/container-id/);
      }
      assert.equal(await ok("ps", "--all", "--quiet"), "");
    });

    it("serve a start at once, where the cloud takes long", async (t) => {
      await untilPrepared(3);
      const secret = [
        "--env=SECRET=swordfish",
        "--hostname=mine",
        "--label=a=b",
        "--workdir=/tmp",
        "--user=1",
      ];
      const script = "echo $SECRET; pwd; id -u; cat /etc/hosts";
      const id = await ok("create", ...secret, "busybox", "sh", "-c", script);
      await ok("start", id);
      assert.equal(await ok("wait", id), "0");
      assert.deepEqual(await phases(id), claimed);
      const told = JSON.parse(await ok("inspect", "--format", "{{json .StartPhases}}", id)) as {
        From: string;
      }[];
      const at = told.map(({ From }) => Date.parse(From));
      t.diagnostic(`from the call to the process: ${(at.at(-1) ?? 0) - (at[0] ?? 0)} ms`);
      assert.match(await ok("logs", id), /^swordfish\n\/tmp\n1\n[\s\S]*mine$/m);
      assert.doesNotMatch(await cloud.sent(), /swordfish/);
      await ok("rm", id);
    });

    it("serve those of a network and size that they were prepared for, and their name and generation", {
      ...inSoak,
    }, async () => {
      await untilPrepared(3);
      const id = await ok(
        ...["run", "--detach", "--cpus=0.5", "--network=ci", "--name=sized", "busybox", "sleep", "600"],
      );
      assert.deepEqual(await phases(id), claimed);
      assert.equal(await ok("exec", "sized", "echo", "alive"), "alive");
      await ok("rm", "--force", "sized");
    });

    it("take all that are there, and start the rest without, side by side", inSoak, async (t) => {
      await untilPrepared(3);
      const burst = Array.from({ length: 5 }, () => ok("run", "--detach", "busybox", "sleep", "600"));
      const ids = await Promise.all(burst);
      const all = await Promise.all(ids.map(phases));
      // A late one of the burst may find one of the next that come up.
      const served = all.filter((names) => names.includes("claim")).length;
      assert.ok(served >= 2, JSON.stringify(all));
      const reasons = (await Promise.all(ids.map(why))).join("\n");
      t.diagnostic(reasons.match(/^(It runs in a prepared|Not prepared).*$/gm)?.join("; ") ?? "");
      assert.equal(
        reasons.match(/^It runs in a prepared task(: it was waited for, .*)?\.$/gm)?.length,
        served,
      );
      const others = /^Not prepared, because (none like it is left|the task like it comes up late)\.$/gm;
      assert.equal(reasons.match(others)?.length ?? 0, 5 - served, reasons);
      await ok("rm", "--force", ...ids);
    });

    it("serve no container that asks for another task", async () => {
      await untilPrepared(3);
      const [option, name] = otherOption;
      await ok("run", "--name=other", option, "busybox", "true");
      const told = await phases("other");
      assert.ok(told.includes("unprepared") && !told.includes("claim"), told.join());
      const reason = `Not prepared, because it differs from the tasks for busybox in ${name}.`;
      assert.ok((await why("other")).split("\n").includes(reason), await why("other"));
      await ok("rm", "other");
    });

    it("serve a container on a network of its own, unless tasks are made with networks, which why tells", async () => {
      await untilPrepared(3);
      await ok("network", "create", "own");
      await ok("run", "--name=alone", "--network=own", "busybox", "true");
      const reason = (await why("alone")).split("\n").at(-1);
      assert.equal(
        reason,
        isMadeWithNetworks
          ? "Not prepared, because it differs from the tasks for busybox in networks."
          : "It runs in a prepared task.",
      );
      await ok("rm", "alone");
      await ok("network", "rm", "own");
    });

    it("serve one container, once, whose start falls back where it cannot be claimed", async (t) => {
      await untilPrepared(3);
      const before = (await running()).map(({ task }) => task);
      cloud.refuseClaim?.();
      if (cloud.refuseClaim === undefined) {
        t.skip("nothing refuses a claim");
        return;
      }
      await ok("run", "--name=fallen", "busybox", "true");
      assert.ok(!(await phases("fallen")).includes("claim"));
      assert.match(await why("fallen"), /^Not prepared, because the prepared task could not be claimed: /m);
      await untilTrue(async () => {
        const now = (await running()).map(({ task }) => task);
        return before.some((task) => !now.includes(task));
      });
      await ok("rm", "fallen");
    });

    it(
      "are found again by a backend that starts, and so is what has claimed one, with and without its state",
      inSoak,
      async () => {
        await untilPrepared(3);
        const idle = await running();
        const id = await ok("run", "--detach", "--name=kept", "busybox", "sh", "-c", "echo said; sleep 600");
        const { daemon } = cloud;
        const tasks = async (): Promise<readonly string[]> =>
          (await running()).map(({ task }) => task).sort();
        await untilTrue(async () => {
          const now = await running();
          return now.length === 4 && now.every(answersIn(cloud));
        });
        const claimedTask = idle.find(await claimedIn(cloud))?.task ?? "";
        const before = await tasks();
        assert.ok(before.includes(claimedTask), claimedTask);
        await daemon.shutDown();
        await daemon.launch();
        await untilTrue(async () => (await ok("ps", "--quiet", "--no-trunc")) === id);
        assert.equal(await ok("exec", "kept", "echo", "alive"), "alive");
        assert.deepEqual(await tasks(), before);
        await daemon.shutDown();
        await rm(daemon.stateDir, { recursive: true });
        await daemon.launch();
        await untilTrue(async () => (await ok("ps", "--quiet", "--no-trunc")) === id);
        assert.equal(await ok("logs", "kept"), "said");
        assert.ok((await tasks()).includes(claimedTask), "in the same task");
        await ok("rm", "--force", "kept");
        await cloud.bringImage();
        await daemon.docker("network", "create", "ci"); // It may have been found again.
        await untilPrepared(3);
      },
    );

    it("show a claimed container nothing of the pool or of another container", inSoak, async () => {
      await untilPrepared(3);
      const names = (await running()).map(({ name }) => name);
      // All that a container can be told, and has written.
      const words = [
        "--env=WORD=swordfish",
        "--label=word=swordfish",
        "--hostname=swordfish",
        "--name=swordfish",
      ];
      const script = "echo swordfish | tee /word; exec sleep 600";
      const other = await ok("run", "--detach", ...words, "busybox", "sh", "-c", script);
      assert.deepEqual(await phases(other), claimed);
      const probe = [
        "env; hostname; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/mounts /proc/net/unix",
        "find / -xdev; cat /etc/hosts /etc/resolv.conf",
        // The brackets keep the probe from finding itself.
        "grep -rlE 'sword[f]ish|SOCKERLESS_PREPARE[D]|PRIVATE KE[Y]' / --exclude-dir=proc --exclude-dir=sys",
        "ping -c 1 -W 1 sword''fish && echo sword''fish is reached",
      ];
      const reads = `for step in "$@"; do eval "$step" 2>/dev/null | tr '\\0' '\\n'; done; exit 0`;
      const id = await ok("run", "--detach", "--name=probe", "busybox", "sh", "-c", reads, "probe", ...probe);
      assert.deepEqual(await phases(id), claimed);
      assert.equal(await ok("wait", "probe"), "0");
      const told = await ok("logs", "probe");
      const files = told.split("\n").filter((line) => line.startsWith("/bin/"));
      assert.ok(files.length > 10, "the probe sees its own files");
      const lines = told.split("\n").filter((line) => !probe.some((step) => step.includes(line)));
      for (const word of [
        "PREPARED",
        "PRIVATE",
        "swordfish",
        other.slice(0, 12),
        ...names.map((name) => name.slice(0, 12)),
      ]) {
        assert.ok(!lines.some((line) => line.includes(word)), `${word}: ${told}`);
      }
      await ok("rm", "--force", "swordfish", "probe");
    });

    it("are told by docker info, and listed and stopped by sockerless pool", inSoak, async () => {
      await untilPrepared(3);
      const pool = (...args: string[]): Promise<string> =>
        runSockerless("pool", ...args, "--backend-address", `unix://${cloud.daemon.backendSocket}`);
      assert.match(
        await ok("info"),
        /^ {2}sockerless\.pool=fixed: 3 of at most 10 wait; \d+\.\d\d idle hours today$/m,
      );
      const { tasks } = JSON.parse(await pool("list", "--format=json")) as {
        readonly tasks: readonly { readonly task: string; readonly kind: string; readonly ready: boolean }[];
      };
      const kinds = ["busybox", "busybox", "busybox cpus=0.5 network=ci"];
      assert.deepEqual(tasks.map(({ kind }) => kind).sort(), kinds);
      const listed = async (): Promise<readonly string[]> => (await running()).map(({ task }) => task);
      assert.deepEqual(tasks.map(({ task }) => task).sort(), [...(await listed())].sort());
      assert.match(
        await pool("list"),
        /^TASK +FOR +STATE +AGE +PER HOUR\n(\S+ .* ready +\d+ min\n){3}\nfixed: 3 of/,
      );
      assert.match(await pool("forecast"), /^FOR +LEAST +MOST +WAIT\nbusybox +2 +2 +2$/m);
      assert.equal(await pool("drain", "--for=2s"), "3 stopped; none is prepared for 2s");
      const format = "--format={{.Action}} {{.Actor.ID}} {{.Actor.Attributes.reason}}";
      const events = ["events", "--since=1h", "--until=0s", "--filter=event=prepared_task", format];
      const stopped = tasks.map(({ task }) => `prepared_task: stopped ${task} the pool is drained`);
      await untilTrue(async () => {
        const past = (await ok(...events)).split("\n");
        return stopped.every((line) => past.includes(line));
      });
      assert.doesNotMatch(await ok("events", "--since=1h", "--until=0s"), /prepared_task/);
      await untilTrue(async () => {
        const now = await listed();
        return tasks.every(({ task }) => !now.includes(task));
      });
      await untilPrepared(3);
    });

    it("are stopped when none are to be prepared any more", inSoak, async () => {
      await startWith({ mode: "off" });
      await untilTrue(async () => (await running()).length === 0);
    });
  });
}
