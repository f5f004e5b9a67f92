/**
 * The same Dockerfiles built by the builder and by a real BuildKit: images of equal configuration, history and files, and
 * equal errors: `npm run soak -- "builds beside BuildKit"`.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import { Buildkitd } from "../support/buildkitd.ts";
import { compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin } from "../support/cli-plugins.ts";
import { buildLimitMs, type CommandResult, runCommand } from "../support/command.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { TestRegistry } from "../support/registry.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { type BaseName, baseImages } from "./base-images.ts";
import { type BuildCase, buildCases } from "./dockerfiles.ts";
import { realWorldCases } from "./real-world.ts";
import { type BuiltImage, builtImagesOf } from "./built-image.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon } = withDaemon();
const resources = new AsyncDisposableStack();
const onEcs = backendUnderTest() === "ecs";
const builders = ["buildkitd", "default"] as const;
let directory: string;
let registry: TestRegistry;
let missing: string | undefined;

describe("builds beside BuildKit", () => {
  before(
    async () => {
      const buildx = await findPlugin("buildx");
      const buildkit = await buildForeignProgram("buildkit");
      if ("missing" in buildx || "missing" in buildkit) {
        missing = "missing" in buildx ? buildx.missing : "missing" in buildkit ? buildkit.missing : undefined;
        return;
      }
      directory = scratchDirectory();
      registry = resources.use(await TestRegistry.start());
      await pushBase("busybox");
      const buildkitd = resources.use(await Buildkitd.start(buildkit.path));
      await installPlugin(daemon, buildx.path);
      await daemon.ok("buildx", "create", "--name", "buildkitd", "--driver", "remote", buildkitd.address);
    },
    { timeout: 2 * programLimitMs },
  );
  after(() => resources.disposeAsync());

  for (const [number, each] of [...buildCases, ...realWorldCases].entries()) {
    if (onEcs && each.notOnEcs === true) {
      continue;
    }
    const except = (onEcs ? each.exceptOnEcs : undefined) ?? each.except;
    test(each.name, async (t: TestContext) => {
      if (missing !== undefined) {
        t.skip(missing);
        return;
      }
      const made = await builtByBoth(each, join(directory, String(number)));
      const [theirs, ours] = made.map((image) =>
        typeof image === "string" || except === undefined
          ? image
          : image.map((one) => ({
              ...one,
              files: one.files.filter((line) => !except.test(line)),
            })),
      );
      assert.deepEqual(ours, theirs);
    });
  }

  for (const [from, to] of [builders, builders.toReversed()] as [string, string][]) {
    test(`a cache of ${from} in a registry is one of ${to}`, async (t: TestContext) => {
      if (missing !== undefined) {
        t.skip(missing);
        return;
      }
      const context = await mkdtemp(join(directory, "cache-"));
      await writeFile(join(context, "file"), from);
      const dockerfile = `FROM ${registry.host}/busybox:latest AS one
RUN cat /proc/sys/kernel/random/uuid > /one
FROM ${registry.host}/busybox:latest
COPY --from=one /one /
COPY --chown=app file /file
RUN --mount=type=bind,target=/context cat /one /context/file /proc/sys/kernel/random/uuid > /two
`;
      await writeFile(join(context, "Dockerfile"), dockerfile);
      await writeFile(join(context, ".dockerignore"), "*.tar\n");
      const ref = `type=registry,ref=${registry.host}/cache:${from}`;
      const build = async (builder: string, ...args: string[]): Promise<CommandResult> => {
        const result = await daemon.docker(
          ...["buildx", "--builder", builder, "build", "--progress", "plain", "--provenance=false"],
          ...["--output", `type=oci,dest=${join(context, `${builder}.tar`)}`, ...args, context],
        );
        assert.equal(result.code, 0, result.errorText);
        return result;
      };
      await build(from, "--no-cache", "--cache-to", `${ref},mode=max`);
      const { errorText } = await build(to, "--cache-from", ref);
      // The last of the four is told as done where its layers were fetched while it was shown: it is the same by its text.
      assert.ok((errorText.match(/^#\d+ CACHED$/gm)?.length ?? 0) >= 3, errorText);
      const [theirs, ours] = await Promise.all(
        [from, to].map(
          async (builder) => await builtImagesOf(await readFile(join(context, `${builder}.tar`))),
        ),
      );
      assert.deepEqual(ours, theirs);
    });
  }
});

const pushed = new Set<BaseName>();

/** Large ones are made where a case that has them runs. */
async function pushBase(base: BaseName): Promise<void> {
  if (!pushed.has(base)) {
    await registry.push(base, "latest", await baseImages[base]());
    pushed.add(base);
  }
}

/** Builds a case by BuildKit and by the builder: the images, or how they were refused. */
async function builtByBoth(each: BuildCase, scratch: string): Promise<(readonly BuiltImage[] | string)[]> {
  // Both keep a context by its directory's name for the next build, and with it times of directories that were there before.
  const context = join(scratch, `context-${basename(scratch)}`);
  await mkdir(context, { recursive: true });
  for (const base of each.bases ?? []) {
    await pushBase(base);
  }
  const dockerfile = (each.bases ?? []).reduce(
    (text, base) =>
      text.replaceAll(new RegExp(`^FROM ${base}\\b`, "gm"), `FROM ${registry.host}/${base}:latest`),
    each.dockerfile.replaceAll(/\bbusybox\b/g, `${registry.host}/busybox:latest`),
  );
  const files = typeof each.files === "function" ? await each.files() : (each.files ?? []);
  const archive = await tarOf([...files, { name: "Dockerfile", content: dockerfile }]);
  const unpacked = await runCommand(
    "tar",
    ["--extract", "--same-owner", "--preserve-permissions", "-C", context],
    { input: archive },
  );
  assert.equal(unpacked.code, 0, unpacked.errorText);
  for (const [name, content] of Object.entries(each.beside ?? {})) {
    await writeFile(join(scratch, name), content);
  }
  const args = (each.args ?? []).map((arg) => arg.replace("@/", `${scratch}/`));
  // Packing the files of a large base would take most of the time.
  const compression = each.bases === undefined ? "" : ",compression=uncompressed";
  const made: (readonly BuiltImage[] | string)[] = [];
  for (const builder of builders) {
    const output = join(scratch, `${builder}.tar`);
    const result = await daemon.docker(
      ...["buildx", "--builder", builder, "build", "--progress", "plain", "--provenance=false"],
      ...["--output", `type=oci,dest=${output}${compression}`, ...args, context],
    );
    if (each.fails === true) {
      assert.notEqual(result.code, 0, `${builder} built it`);
      made.push(errorOf(result));
    } else {
      assert.equal(result.code, 0, `${builder}: ${result.errorText}`);
      made.push(await builtImagesOf(await readFile(output)));
    }
  }
  await rm(scratch, { recursive: true });
  return made;
}

/** The end of a failed build as a user reads it, without times and the names of things. */
function errorOf({ errorText }: CommandResult): string {
  const at = errorText.indexOf("------\n");
  return errorText
    .slice(at < 0 ? errorText.lastIndexOf("ERROR: ") : at)
    .replaceAll(/^\d+\.\d+ /gm, "")
    .replaceAll(/checksum of ref \S+: /g, "checksum of ref …: ")
    .replaceAll(registry.host, "registry");
}
