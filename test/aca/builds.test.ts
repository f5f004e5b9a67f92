/** Builds on the ACA backend: what of them is a job, and what Azure is asked for. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { build, built, compileBuilder } from "../support/builds.ts";
import { buildingArgs, buildsOnAnyCloud } from "../support/cloud-builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";

before(compileBuilder, { timeout: buildLimitMs });

describe("a build on Container Apps", () => {
  // A step has as long as that to follow another.
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "20m" }, daemon: { args: buildingArgs } }));
  beforeEach(() => aca.azure.calls.clear());

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const socket = (): string => aca.daemon.socket;
  const base = (): string => `FROM ${aca.account.image("busybox")}`;

  buildsOnAnyCloud(
    () => ({
      daemon: aca.daemon,
      base: aca.account.image("busybox"),
      calls: aca.azure.calls,
      startCall: "app.Jobs_Start",
      lateCalls: ["app.Jobs_StopExecution", "app.Jobs_Delete", "app.JobExecution"],
      isIdle: () => aca.azure.app.jobs.names().length === 0,
      refused: [
        ["RUN --network=host true", /network\.host is not allowed/],
        ["RUN true", /the aca backend does not support RUN --network=host/, { networkmode: "host" }],
        ["RUN --network=none true", /the aca backend does not support --network none/],
        ["RUN --mount=type=cache,target=/x,uid=7 true", /RUN --mount=type=cache with uid, gid, mode or from/],
        ["RUN --security=insecure true", /security\.insecure is not allowed|--security=insecure/],
      ],
      protectsMounts: false,
      directory: aca.azure.context.directory,
    }),
    false,
  );

  it("begins as another user where its base does, in an image that is derived", async () => {
    await built(socket(), `${base()}\nUSER app\n`, { query: { t: "other:1" } });
    const dockerfile = "FROM other:1\nRUN id -u > /tmp/user\nUSER root\nRUN id -u >> /tmp/user\n";
    const { text, error } = await build(socket(), dockerfile, { query: { t: "users:1" } });
    assert.equal(error, undefined, text);
    assert.equal(await ok("run", "--rm", "users:1", "cat", "/tmp/user"), "1000\n0");
  });
});
