/**
 * The Docker socket inside a container of a cloud, `inner_socket: own`: images are pulled by it, and testcontainers has what it
 * made reaped. The rules themselves are tested beside the engine, and on ECS.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { ryukImage } from "../conformance/testcontainers.ts";
import { compileBuilder } from "./builds.ts";
import { buildLimitMs, runCommand } from "./command.ts";
import { checkout, type Daemon } from "./daemon.ts";
import { pushJobImages, runHooksInside } from "./github-runner.ts";
import { busyboxImage } from "./images.ts";
import { InnerClient, relayArguments, relayImage } from "./inner-client.ts";
import { findNpmPackages } from "./npm-packages.ts";
import { buildProgram } from "./programs.ts";
import { TestRegistry } from "./registry.ts";
import { untilTrue } from "./until.ts";

/** A daemon whose containers may have sockets, and a registry that it pulls from. */
export interface SocketSetting extends AsyncDisposable {
  readonly daemon: Daemon;
  readonly registry: TestRegistry;
}

/** Describes a container with a Docker socket of its own. */
export function describeInnerSocket(
  start: () => Promise<SocketSetting>,
  options: { skip?: string | false } = {},
): void {
  describe("a container with a Docker socket of its own", options, () => {
    let setting: SocketSetting;
    let job: InnerClient;
    let image: string;
    let reaper: string;

    before(compileBuilder, { timeout: buildLimitMs });
    before(async () => {
      setting = await start();
      const { daemon, registry } = setting;
      await registry.push("busybox", "latest", await busyboxImage());
      await registry.push("relay", "1", await relayImage());
      await registry.push("ryuk", "1", await ryukImage(await readFile(await buildProgram("ryuk"))));
      [image, reaper] = [`${registry.host}/relay:1`, `${registry.host}/ryuk:1`];
      await daemon.ok("pull", image);
      await daemon.ok("run", "--detach", "--name", "secret", image, "sleep", "100000");
      await daemon.ok("run", "--detach", "--name", "job", ...relayArguments, image);
      job = await InnerClient.of(daemon, "job");
    });
    after(async () => {
      await job[Symbol.asyncDispose]();
      await setting[Symbol.asyncDispose]();
    });

    it("sees no image that it has not pulled, and pulls with no credentials but its own", async () => {
      const busybox = `${setting.registry.host}/busybox:latest`;
      assert.equal(await job.ok("images", "--format", "{{.Repository}}:{{.Tag}}"), image);
      const unseen = await job.docker(["inspect", "--type", "image", busybox]);
      assert.match(unseen.errorText, /No such image/);
      assert.equal(await job.ok("run", "--rm", "--quiet", busybox, "echo", "pulled"), "pulled");
      assert.equal((await job.ok("images", "--format", "{{.Repository}}:{{.Tag}}")).split("\n").length, 2);
      await using closed = await TestRegistry.start({ credentials: true });
      await closed.push("busybox", "latest", await relayImage());
      const refused = await job.docker(["pull", `${closed.host}/busybox:latest`]);
      assert.notEqual(refused.code, 0);
      assert.match(refused.errorText, /no basic auth credentials|denied|unauthorized/);
      assert.match(
        await setting.daemon.ok("images", "--format", "{{.Repository}}:{{.Tag}}"),
        /\/busybox:latest/,
      );
    });

    it("has testcontainers' containers reaped, and no others", async (t) => {
      const found = await findNpmPackages();
      if ("missing" in found) {
        t.skip(found.missing);
        return;
      }
      const script = join(checkout, "test/programs/npm/testcontainers-run.cjs");
      const { code, text, errorText } = await runCommand(process.execPath, [script, image], {
        env: {
          ...process.env,
          DOCKER_HOST: `unix://${job.socket}`,
          NODE_PATH: join(found.packages, "node_modules"),
          TESTCONTAINERS_HOST_OVERRIDE: "127.0.0.1",
          TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE: "/var/run/docker.sock",
          TESTCONTAINERS_RYUK_PRIVILEGED: "false",
          RYUK_CONTAINER_IMAGE: reaper,
          TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT: "1s",
          RYUK_RECONNECTION_TIMEOUT: "1s",
        },
      });
      assert.equal(code, 0, errorText);
      const [id = "", said] = text.split("\n");
      assert.match(id, /^[0-9a-f]{64}$/);
      assert.equal(said, "said inside");
      await untilTrue(async () => (await job.ok("ps", "--all", "--format", "{{.Names}}")) === "job");
      assert.equal(await setting.daemon.ok("ps", "--all", "--format", "{{.Names}}"), "job\nsecret");
    });

    it("executes the hooks of a GitHub runner that it runs", async () => {
      const { daemon, registry } = setting;
      await pushJobImages(registry);
      const output = await runHooksInside(daemon, registry);
      assert.match(output, /^healthy\ntest in \/__w\/app\/app\nserved\ngreeted\ngreeted$/m);
    });
  });
}
