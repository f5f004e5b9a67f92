/**
 * Many claims beside kill -9 of the backend: no task serves two containers, none is left. `npm run soak -- claims` makes
 * 1,000; `npm test` a few. Each cloud's own test calls the suite.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { runSockerless } from "../support/run-sockerless.ts";
import { findProcess } from "../support/processes.ts";
import { untilTrue } from "../support/until.ts";
import type { PoolCloud, PoolCloudKind } from "./pool-cloud.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const claims = isWhole ? Number(process.env["SOCKERLESS_STORM_RUNS"] ?? 1_000) : 4;
const clients = isWhole ? 4 : 2;
/** Tasks that wait at a time. */
const prepared = 4;
const mostKills = isWhole ? Infinity : 1;
/** Milliseconds for which the backend answers before it is killed. */
const pauses = [1_000, 200, 2_000, 5_000, 50];

export function claimsStorm({ open }: PoolCloudKind): void {
  describe("claims beside kill -9 of the backend", () => {
    let cloud: PoolCloud;

    before(async () => {
      cloud = await open({ args: ["--pool-mode=fixed", `--pool-images=busybox=${prepared}`] });
    });
    after(() => cloud[Symbol.asyncDispose]());

    const isUp = async (name: string): Promise<boolean> =>
      (await cloud.daemon.docker("inspect", "--format", "{{.State.Status}}", name)).text === "running";

    it("leave each task to one container, each container one run, and no task behind", async (t) => {
      const { daemon, claimants } = cloud;
      let isOver = false;
      let kills = 0;
      const kill = async (): Promise<void> => {
        while (!isOver && kills < mostKills) {
          await untilTrue(async () => (await daemon.docker("info")).code === 0);
          await delay(pauses[kills % pauses.length]);
          const backend = findProcess(daemon, "backend");
          if (backend !== undefined) {
            process.kill(backend, "SIGKILL");
            kills += 1;
          }
        }
      };
      let made = 0;
      const work = async (): Promise<void> => {
        while ((await claimants()).size < claims) {
          made += 1;
          const name = `claim-${made}`; // No beginning of an ID, by which Docker finds containers too.
          await untilTrue(
            async () =>
              (await daemon.docker("inspect", name)).code === 0 ||
              (
                await daemon.docker(
                  "create",
                  `--name=${name}`,
                  "busybox",
                  "sh",
                  "-c",
                  "echo ran; exec sleep 600",
                )
              ).code === 0,
          );
          await untilTrue(async () => (await isUp(name)) || (await daemon.docker("start", name)).code === 0);
          await untilTrue(
            async () => (await daemon.docker("exec", name, "sh", "-c", `: > /mark-${name}`)).code === 0,
          );
          let marks = "";
          await untilTrue(async () => {
            const { code, text } = await daemon.docker("exec", name, "sh", "-c", "ls -d /mark*");
            marks = text;
            return code === 0;
          });
          assert.equal(marks, `/mark-${name}`, "its files are its own");
          await untilTrue(async () => {
            const { code, text } = await daemon.docker("logs", name);
            marks = text;
            return code === 0;
          });
          assert.equal(marks, "ran", "its command has run once");
          await untilTrue(async () => (await daemon.docker("rm", "--force", name)).code === 0);
        }
      };
      const killing = kill();
      try {
        await Promise.all(Array.from({ length: clients }, work));
      } finally {
        isOver = true;
        await killing;
      }
      const served = [...(await claimants()).values()];
      assert.deepEqual(
        served.filter((ids) => ids.size !== 1),
        [],
        "a task was claimed for two containers",
      );
      await untilTrue(async () => (await daemon.docker("ps", "--all", "--quiet")).text === "");
      t.diagnostic(`${served.length} claims by ${made} containers, ${kills} kills`);
      await runSockerless("pool", "drain", "--for=1h", "--backend-address", `unix://${daemon.backendSocket}`);
      await untilTrue(async () => (await cloud.running()).length === 0);
    });
  });
}
