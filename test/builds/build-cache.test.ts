/** Build caches that leave the builder and come back: with an image, in a registry, in a directory of the client. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";

import { compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs } from "../support/command.ts";
import { busyboxImage } from "../support/images.ts";
import { TestRegistry } from "../support/registry.ts";
import { inSoak, sampled } from "../support/soak.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();
const resources = new AsyncDisposableStack();
let directory: string;
let registry: TestRegistry;
let missing: string | undefined;

/** Builds two stages, each of which makes a file of random bytes: who has the same built none of it anew. */
async function buildRandom(...args: string[]): Promise<string> {
  const { code, errorText } = await daemon.docker(
    ...["buildx", "build", "--progress", "plain", ...args, directory],
  );
  assert.equal(code, 0, errorText);
  return errorText;
}

/** Forgets what was built. */
async function forget(): Promise<void> {
  await ok("image", "rm", "--force", "cached:1");
  await ok("buildx", "prune", "--force", "--all");
}

const contentOf = (image: string) => ok("run", "--rm", "--quiet", image, "cat", "/one", "/two");

describe("build caches", () => {
  before(
    async () => {
      const found = await findPlugin("buildx");
      if ("missing" in found) {
        missing = found.missing;
        return;
      }
      directory = scratchDirectory();
      registry = resources.use(await TestRegistry.start());
      await registry.push("base", "1", await busyboxImage());
      await installPlugin(daemon, found.path);
      const dockerfile = `FROM ${registry.host}/base:1 AS one
RUN cat /proc/sys/kernel/random/uuid > /one
FROM ${registry.host}/base:1
COPY --from=one /one /
COPY context /
RUN cat /proc/sys/kernel/random/uuid > /two
`;
      await writeFile(join(directory, "Dockerfile"), dockerfile);
      await writeFile(join(directory, "context"), "context");
      await writeFile(join(directory, ".dockerignore"), "local\n");
    },
    { timeout: pluginLimitMs },
  );
  after(() => resources.disposeAsync());

  for (const [type, to, from] of [
    ["a registry", "type=registry,ref=REGISTRY/cache:1,mode=max", "type=registry,ref=REGISTRY/cache:1"],
    [
      "a registry by zstd",
      "type=registry,ref=REGISTRY/cache:2,mode=max,compression=zstd,image-manifest=false",
      "REGISTRY/cache:2",
    ],
    ["a directory", "type=local,dest=DIRECTORY/local,mode=max", "type=local,src=DIRECTORY/local"],
  ] as const) {
    test(`goes to ${type} and comes back`, sampled(type !== "a registry by zstd"), async (t: TestContext) => {
      if (missing !== undefined) {
        t.skip(missing);
        return;
      }
      const option = (text: string) =>
        text.replace("REGISTRY", registry.host).replace("DIRECTORY", directory);
      await buildRandom("--no-cache", "--tag", "cached:1", "--cache-to", option(to));
      const id = await ok("inspect", "--format", "{{.Id}}", "cached:1");
      const made = await contentOf("cached:1");
      await forget();
      const progress = await buildRandom("--tag", "cached:1", "--cache-from", option(from));
      assert.equal(await contentOf("cached:1"), made);
      assert.equal(await ok("inspect", "--format", "{{.Id}}", "cached:1"), id);
      assert.ok((progress.match(/^#\d+ CACHED$/gm)?.length ?? 0) >= 4, progress);
    });
  }

  test("goes with an image that is pushed, of its own stage alone", inSoak, async (t: TestContext) => {
    if (missing !== undefined) {
      t.skip(missing);
      return;
    }
    const name = `${registry.host}/inline:1`;
    await buildRandom("--no-cache", "--push", "--tag", name, "--cache-to", "type=inline");
    const made = await contentOf(name);
    await ok("image", "rm", "--force", name);
    await forget();
    await buildRandom("--tag", "cached:1", "--cache-from", name);
    assert.equal(await contentOf("cached:1"), made);
  });

  test("goes with an image that docker build pushes, and is named to it", inSoak, async (t: TestContext) => {
    if (missing !== undefined) {
      t.skip(missing);
      return;
    }
    const name = `${registry.host}/inline:2`;
    const env = { ...daemon.clientEnv, DOCKER_BUILDKIT: "0" };
    const classic = async (...args: string[]): Promise<string> => {
      const { code, text, errorText } = await daemon.dockerWith({ env }, "build", ...args, directory);
      assert.equal(code, 0, errorText);
      return text;
    };
    await classic("--no-cache", "--tag", name, "--build-arg", "BUILDKIT_INLINE_CACHE=1");
    await ok("push", "--quiet", name);
    const made = await contentOf(name);
    await ok("image", "rm", "--force", name);
    await forget();
    assert.match(await classic("--tag", "cached:1", "--cache-from", name), /Using cache/);
    assert.equal(await contentOf("cached:1"), made);
  });

  test("is told by its error when it cannot be had, and the build goes on", async (t: TestContext) => {
    if (missing !== undefined) {
      t.skip(missing);
      return;
    }
    const progress = await buildRandom("--cache-from", `${registry.host}/nothing:1`);
    assert.match(progress, /nothing:1: not found/);
    const { errorText } = await daemon.docker(
      ...["buildx", "build", "--cache-to", "type=s3,bucket=b,region=r", directory],
    );
    assert.match(errorText, /unknown cache exporter: "s3"/);
  });
});
