import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { ProgressLine } from "./progress.ts";
import { SharedPulls, type SharedWork } from "./shared-pulls.ts";

const pulled = { imageId: "sha256:1", digest: "sha256:2", isNewer: true, warning: undefined };
const never = new AbortController().signal;

/** Work that a test lets report and end. */
function controlled() {
  const result = Promise.withResolvers<typeof pulled>();
  const runs: { report: Parameters<SharedWork>[0]; signal: AbortSignal }[] = [];
  const work: SharedWork = (report, signal) => {
    runs.push({ report, signal });
    signal.addEventListener("abort", () => result.reject(signal.reason));
    return result.promise;
  };
  return { result, runs, work };
}

describe("pulls of one key", () => {
  it("run once; later callers get the current progress", async () => {
    const pulls = new SharedPulls();
    const { result, runs, work } = controlled();
    const [early, late]: [ProgressLine[], ProgressLine[]] = [[], []];
    const first = pulls.join("k", (line) => early.push(line), never, work);
    runs[0]?.report({ id: "a", status: "Downloading", current: 1, total: 2 });
    runs[0]?.report({ id: "a", status: "Downloading", current: 2, total: 2 });
    const second = pulls.join("k", (line) => late.push(line), never, work);
    runs[0]?.report({ id: "a", status: "Pull complete" });
    result.resolve(pulled);
    assert.deepEqual(await Promise.all([first, second]), [pulled, pulled]);
    assert.equal(runs.length, 1);
    assert.equal(early.length, 3);
    assert.deepEqual(late, [
      { id: "a", status: "Downloading", current: 2, total: 2 },
      { id: "a", status: "Pull complete" },
    ]);
  });

  it("start again after the end", async () => {
    const pulls = new SharedPulls();
    const { result, runs, work } = controlled();
    result.resolve(pulled);
    await pulls.join("k", () => {}, never, work);
    await pulls.join("k", () => {}, never, work);
    assert.equal(runs.length, 2);
  });

  it("end when the last has left, and not before", async () => {
    const pulls = new SharedPulls();
    const { runs, work } = controlled();
    const [one, two] = [new AbortController(), new AbortController()];
    const first = pulls.join("k", () => {}, one.signal, work);
    const second = pulls.join("k", () => {}, two.signal, work);
    one.abort(new Error("one"));
    await assert.rejects(first, { message: "one" });
    assert.equal(runs[0]?.signal.aborted, false);
    two.abort(new Error("two"));
    await assert.rejects(second, { message: "two" });
    assert.equal(runs[0]?.signal.aborted, true);
  });

  it("fail for all", async () => {
    const pulls = new SharedPulls();
    const { result, work } = controlled();
    const both = [1, 2].map(() => pulls.join("k", () => {}, never, work));
    result.reject(new Error("away"));
    for (const each of await Promise.allSettled(both)) {
      assert.equal(each.status, "rejected");
    }
  });
});
