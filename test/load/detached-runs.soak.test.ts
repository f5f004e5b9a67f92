/** Many detached runs, each waited for and read. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon } = withDaemon();
const runCount = 1000;
const laneCount = 4;

test(`${runCount} detached runs in ${laneCount} lanes: wait and logs are right`, async () => {
  const wrong: string[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let n = next++; n < runCount; n = next++) {
      const code = n % 256;
      const id = await daemon.ok(
        ...["run", "-d", "busybox", "sh", "-c", `echo ${n}; echo ${n} >&2; exit ${code}`],
      );
      const waited = await daemon.docker("wait", id);
      const logs = await daemon.docker("logs", id);
      if (waited.text !== String(code) || logs.text !== String(n) || logs.errorText !== String(n)) {
        wrong.push(
          `run ${n}: wait ${waited.text} ${waited.errorText}, logs ${JSON.stringify([logs.text, logs.errorText])}`,
        );
      }
      await daemon.ok("rm", id);
    }
  };
  await Promise.all(Array.from({ length: laneCount }, lane));
  assert.deepEqual(wrong, []);
  assert.equal(await daemon.ok("ps", "-aq"), "");
});
