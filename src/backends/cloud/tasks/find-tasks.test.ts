import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { LatestOnly } from "../../concurrency/latest-only.ts";
import { taskView, testCloud } from "../testing/cloud.ts";
import { tasksOfStart } from "./find-tasks.ts";

const instance = "one";

describe("the tasks of a start", () => {
  it("are looked for once for all who ask before that begins, and again for who asks meanwhile", async () => {
    const views = Array.from({ length: 50 }, (_, at) =>
      taskView({ task: `task/${at}`, instance, containerId: `${at}`, generation: 1n }),
    );
    const listed = Promise.withResolvers<void>();
    let lists = 0;
    const options = {
      cloud: testCloud({
        async listOwn() {
          lists++;
          await listed.promise;
          return views.map(({ task }) => task);
        },
      }),
      poller: { describe: async () => ({ views, failed: new Map<string, unknown>() }) },
      book: { all: () => [] },
      searches: new LatestOnly<readonly (typeof views)[number][]>(),
      instance,
    };
    const ask = () => Promise.all(views.map(({ containerId }) => tasksOfStart(options, containerId, 1n)));
    const first = ask();
    await setImmediate();
    const second = ask();
    await setImmediate();
    assert.equal(lists, 1);
    listed.resolve();
    const tasks = views.map(({ task }) => [task]);
    for (const found of await Promise.all([first, second])) {
      assert.deepEqual(
        found.map((each) => each.map(({ task }) => task)),
        tasks,
      );
    }
    assert.equal(lists, 2);
  });
});
