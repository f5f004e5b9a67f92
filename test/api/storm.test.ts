/** Many attached runs at once: every byte and every exit code arrives. `npm run soak` runs more of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { backendUnderTest } from "../support/backend-under-test.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { inSoak } from "../support/soak.ts";

const { daemon } = withDaemon();
/** A task is much more to start than a process. */
const runCount = Number(process.env["SOCKERLESS_STORM_RUNS"] ?? (backendUnderTest() === "local" ? 64 : 40));
const laneCount = 4;

test(`${runCount} attached runs in ${laneCount} lanes lose nothing`, inSoak, async () => {
  let next = 0;
  const wrong: string[] = [];
  const lane = async (): Promise<void> => {
    for (let n = next++; n < runCount; n = next++) {
      const code = (n * 67) % 256; // of all parts of the range, and each of them in 256 runs
      const result = await daemon.docker("run", "--rm", "busybox", "sh", "-c", `echo ${n}; exit ${code}`);
      if (result.text !== String(n) || result.code !== code) {
        wrong.push(
          `run ${n}: code ${result.code}, output ${JSON.stringify(result.text)}, ${result.errorText}`,
        );
      }
    }
  };
  await Promise.all(Array.from({ length: laneCount }, lane));
  assert.deepEqual(wrong, []);
  assert.equal(await daemon.ok("ps", "-aq"), "");
});
