/** Builds on the ACA backend: what of them is a job, and what Azure is asked for. */
import assert from "node:assert/strict";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { build, built, compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildingArgs, buildsOnAnyCloud } from "../support/cloud-builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { buildProgram } from "../support/programs.ts";
import { makeSshKey } from "../support/ssh-key.ts";

before(compileBuilder, { timeout: buildLimitMs });

describe("a build on Container Apps", () => {
  let aca: AcaDaemon;

  before(async () => {
    // A step has as long as that to follow another.
    aca = await AcaDaemon.start({ aca: { linger: "20m" }, daemon: { args: buildingArgs } });
  });
  after(async () => {
    await aca?.stop();
  });
  beforeEach(() => aca.azure.calls.clear());

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const socket = (): string => aca.daemon.socket;
  const base = (): string => `FROM ${aca.account.image("busybox")}`;

  buildsOnAnyCloud(() => ({
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
  }));

  it("begins as another user where its base does, in an image that is derived", async () => {
    await built(socket(), `${base()}\nUSER app\n`, { query: { t: "other:1" } });
    const dockerfile = "FROM other:1\nRUN id -u > /tmp/user\nUSER root\nRUN id -u >> /tmp/user\n";
    const { text, error } = await build(socket(), dockerfile, { query: { t: "users:1" } });
    assert.equal(error, undefined, text);
    assert.equal(await ok("run", "--rm", "users:1", "cat", "/tmp/user"), "1000\n0");
  });

  it("reaches its client's SSH agent, and has single files mounted", {
    timeout: pluginLimitMs,
  }, async (t) => {
    const plugin = await findPlugin("buildx");
    if ("missing" in plugin) {
      t.skip(plugin.missing);
      return;
    }
    await installPlugin(aca.daemon, plugin.path);
    const directory = await mkdtemp(join(tmpdir(), "skl-context-"));
    t.after(() => rm(directory, { recursive: true }));
    const { pem, blob } = makeSshKey();
    const key = join(directory, "key");
    await writeFile(key, pem, { mode: 0o600 });
    await writeFile(join(directory, ".dockerignore"), "key\n");
    await writeFile(join(directory, "told"), "told\n");
    await copyFile(await buildProgram("sshkeys"), join(directory, "sshkeys"));
    const dockerfile = `${base()}
COPY --chmod=755 sshkeys /bin/
RUN --mount=type=ssh --mount=type=bind,source=told,target=/told sshkeys > /out; cat /told >> /out
RUN test ! -e /run/buildkit -a -z "$SSH_AUTH_SOCK" -a ! -s /told
`;
    await writeFile(join(directory, "Dockerfile"), dockerfile);
    const given = ["--ssh", `default=${key}`, "--tag", "ssh:1"];
    const { code, errorText } = await aca.daemon.docker("buildx", "build", ...given, directory);
    assert.equal(code, 0, errorText);
    assert.equal(await ok("run", "--rm", "ssh:1", "cat", "/out"), `${blob}\ntold`);
  });
});
