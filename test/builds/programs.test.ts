/**
 * Builds by whole programs of others. Most of them take minutes to compile: they are run with SOCKERLESS_SOAK=1 (`npm run
 * soak -- test/builds`).
 */
import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, truncate } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";

import { compileBuilder } from "../support/builds.ts";
import { addPlugin, findPlugin } from "../support/cli-plugins.ts";
import { buildLimitMs, type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { buildForeignProgram, type ForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { busyboxRootfsFile } from "../support/images.ts";
import { findNpmPackages } from "../support/npm-packages.ts";
import { peakBytes, processOf } from "../support/processes.ts";
import { buildProgram } from "../support/programs.ts";
import { TestRegistry } from "../support/registry.ts";
import { entriesOf } from "../support/tar.ts";
import { untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { isSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();
const inSoak = {
  skip: isSoak ? false : "it takes minutes to compile: only in the soak",
  timeout: 2 * programLimitMs,
};
const directory = scratchDirectory();
/** Writes files beneath a directory of the test's own, and answers it. */
const write = (name: string, files: Readonly<Record<string, string>>) =>
  writeFiles(join(directory, name), files);

/** Runs a program as the daemon's client, in the test's directory, where it finds nothing of the user's. */
async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const own = { ...daemon.clientEnv, HOME: directory, TMPDIR: directory, ...env };
  return await runCommand(program, args, { env: own, cwd: directory });
}

/** The same, of a program that has to succeed: its output. */
async function succeeds(...[program, args, env]: Parameters<typeof run>): Promise<string> {
  const { code, text, errorText } = await run(program, args, env);
  assert.equal(code, 0, `${text}\n${errorText}`);
  return text;
}

/** Has a test skipped where its programs cannot be had; else their paths. */
async function pathsOf(
  t: TestContext,
  ...programs: readonly Promise<ForeignProgram>[]
): Promise<readonly string[] | undefined> {
  const found = await Promise.all(programs);
  for (const each of found) {
    if ("missing" in each) {
      t.skip(each.missing);
      return undefined;
    }
  }
  return found.map((each) => ("path" in each ? each.path : ""));
}

/** A configuration of the docker CLI's own that has a plugin. */
async function configWith(plugin: string): Promise<string> {
  const config = await mkdtemp(join(directory, "config-"));
  await addPlugin(config, plugin);
  return config;
}

describe("testcontainers", () => {
  const reaper = "testcontainers/ryuk:0.14.0";
  const env = {
    TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT: "1s",
    RYUK_RECONNECTION_TIMEOUT: "1s",
    TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE: "/var/run/docker.sock",
  };
  let context: string;
  before(async () => {
    context = await write("testcontainers", {
      Dockerfile:
        'FROM busybox\nARG WHO\nCOPY said /\nRUN echo "to $WHO" >> /said\nCMD ["cat", "/said"]\nUSER app\n',
      said: "It was built\n",
    });
    // Clients and the reaper itself know it by its image's label.
    const ryuk = await write("ryuk", {
      Dockerfile: 'FROM scratch\nLABEL org.testcontainers.ryuk=true\nCOPY ryuk /\nENTRYPOINT ["/ryuk"]\n',
    });
    await runCommand("cp", [await buildProgram("ryuk"), ryuk]);
    await ok("build", "--tag", reaper, ryuk);
  });

  /** Waits until the reaper has ended and nothing of a session is left. */
  async function isReaped(image: string): Promise<void> {
    await untilTrue(async () => {
      const images = await ok("images", "--quiet", image);
      return images === "" && (await ok("ps", "--all", "--quiet")) === "";
    });
  }

  test("of Node builds a Dockerfile, and has its image reaped", async (t) => {
    const found = await findNpmPackages();
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    const script = join(checkout, "test/programs/npm/testcontainers-build.cjs");
    for (const builder of ["classic", "buildkit"]) {
      const said = await succeeds(process.execPath, [script, context, builder], {
        ...env,
        NODE_PATH: join(found.packages, "node_modules"),
      });
      const [image = "", ...lines] = said.split("\n");
      assert.deepEqual(lines, ["It was built", "to Node"]);
      assert.match(image, /^localhost\//);
      await isReaped(image);
    }
  });

  test("of Go builds a Dockerfile, and takes its image away", inSoak, async (t) => {
    const [program] = (await pathsOf(t, buildForeignProgram("testcontainers-go"))) ?? [];
    if (program === undefined) {
      return;
    }
    const before = await ok("images", "--quiet");
    assert.equal(await succeeds(program, [context], env), "It was built\nto Go");
    assert.equal(await ok("images", "--quiet"), before);
    await isReaped("none");
  });
});

test(
  "the Dev Containers CLI builds a Dockerfile with features, and works in its container",
  inSoak,
  async (t) => {
    const found = await findNpmPackages();
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    const [buildx] = (await pathsOf(t, findPlugin("buildx"))) ?? [];
    if (buildx === undefined) {
      return;
    }
    const workspace = await write("workspace", {
      ".devcontainer/devcontainer.json": JSON.stringify({
        build: { dockerfile: "Dockerfile", args: { WHO: "devcontainers" } },
        features: { "./hello": { greeting: "hello" } },
        remoteUser: "app",
        onCreateCommand: "cat /who > /tmp/created",
      }),
      ".devcontainer/Dockerfile":
        "FROM busybox\nARG WHO\nRUN echo for $WHO > /who && chown app:app /home/app\n",
      ".devcontainer/hello/devcontainer-feature.json": JSON.stringify({
        id: "hello",
        version: "1.0.0",
        options: { greeting: { type: "string", default: "none" } },
      }),
      ".devcontainer/hello/install.sh": '#!/bin/sh -e\necho "$GREETING" > /feature\n',
      source: "of the workspace\n",
    });
    const program = join(found.packages, "node_modules/@devcontainers/cli/devcontainer.js");
    const config = await configWith(buildx);
    const devcontainer = async (command: string, ...args: string[]): Promise<string> =>
      await succeeds(process.execPath, [program, command, "--workspace-folder", workspace, ...args], {
        DOCKER_CONFIG: config,
      });
    for (const buildkit of ["auto", "never"]) {
      const image = `devcontainer:${buildkit}`;
      await devcontainer("build", "--buildkit", buildkit, "--image-name", image);
      assert.equal(await ok("run", "--rm", image, "cat", "/who", "/feature"), "for devcontainers\nhello");
    }
    await devcontainer("up");
    assert.equal(
      await devcontainer("exec", "sh", "-c", "cat /tmp/created /feature source; id -un"),
      "for devcontainers\nhello\nof the workspace\napp",
    );
    await ok(
      "rm",
      "--force",
      await ok("ps", "--quiet", "--filter", `label=devcontainer.local_folder=${workspace}`),
    );
  },
);

test("buildx 0.12 builds, bakes, exports, pushes, and sees its cache", inSoak, async (t) => {
  const [plugin] = (await pathsOf(t, findPlugin("buildx-0.12"))) ?? [];
  if (plugin === undefined) {
    return;
  }
  const env = { DOCKER_CONFIG: await configWith(plugin) };
  const buildx = (...args: string[]) => run("docker", ["buildx", ...args], env);
  const succeed = (...args: string[]) => succeeds("docker", ["buildx", ...args], env);
  assert.match(await succeed("version"), / v0\.12\./);
  const files = await write("old-buildx", {
    Dockerfile: `# syntax=docker/dockerfile:1
FROM busybox AS one
RUN --mount=type=secret,id=token sha256sum < /run/secrets/token > /one
FROM busybox AS last
ARG WHO
COPY --from=one /one /
COPY --from=other file /file
RUN --mount=type=cache,target=/cache <<END
echo for $WHO > /who
END
FROM scratch AS files
COPY --from=last /who /file /d/
FROM last
`,
    "other/file": "other\n",
    failing: "FROM busybox\nRUN exit 3\n",
    token: "secret",
    "docker-bake.hcl":
      'target "default" {\n  dockerfile-inline = "FROM busybox\\nCOPY token /\\n"\n  tags = ["old:baked"]\n}\n',
  });
  const metadata = join(files, "metadata.json");
  const args = [
    ...[
      "--progress",
      "plain",
      "--secret",
      `id=token,src=${join(files, "token")}`,
      "--build-arg",
      "WHO=buildx",
    ],
    ...["--build-context", `other=${join(files, "other")}`, files],
  ];
  await succeed("build", "--tag", "old:1", "--metadata-file", metadata, ...args);
  assert.equal(await ok("run", "--rm", "old:1", "cat", "/who", "/file"), "for buildx\nother");
  const told = JSON.parse(await readFile(metadata, "utf8")) as Record<string, unknown>;
  assert.equal(told["containerimage.digest"], await ok("inspect", "--format", "{{.Id}}", "old:1"));
  const again = await buildx("build", ...args);
  assert.match(again.errorText, /#(\d+) \[last 4\/4\] RUN .*\n#\1 CACHED\n/);

  const failed = await buildx("build", "--file", join(files, "failing"), files);
  assert.equal(failed.code, 1);
  assert.match(failed.errorText, /2 \| >>> RUN exit 3\n/);

  const local = join(files, "local");
  await succeed("build", "--target", "files", "--output", local, ...args);
  assert.equal(await readFile(join(local, "d/who"), "utf8"), "for buildx\n");
  for (const [type, wanted] of [
    ["tar", "d/who"],
    ["docker", "manifest.json"],
    ["oci", "index.json"],
  ] as const) {
    const file = join(files, `${type}.tar`);
    await succeed("build", "--target", "files", "--output", `type=${type},dest=${file}`, ...args);
    assert.ok(
      (await entriesOf(await readFile(file))).some(({ name }) => name === wanted),
      type,
    );
  }

  await using registry = await TestRegistry.start();
  const name = `${registry.host}/old:1`;
  await succeed("build", "--push", "--cache-to", "type=inline", "--tag", name, ...args);
  await ok("rmi", name);
  assert.equal(await ok("run", "--quiet", "--rm", name, "cat", "/who"), "for buildx");

  const baking = { env: { ...daemon.clientEnv, ...env }, cwd: files };
  const baked = await runCommand("docker", ["buildx", "bake", "--progress", "plain"], baking);
  assert.equal(baked.code, 0, baked.errorText);
  assert.equal(await ok("run", "--rm", "old:baked", "cat", "/token"), "secret");

  assert.match(await succeed("inspect"), /Status:\s+running\n/);
  assert.match(await succeed("du"), /Total:\s+[\d.]+\w?B/);
  assert.match(await succeed("prune", "--force", "--all"), /Total:\s+[\d.]+\w?B/);
});

test("a context of 1 GiB and 10,000 files is taken in with little memory", inSoak, async () => {
  const small = await write("small", { Dockerfile: "FROM scratch\nCOPY . /\n" });
  await ok("build", small);
  const files = Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [`many/${at}`, `${at}\n`]));
  const context = await write("large", { ...files, Dockerfile: "FROM scratch\nCOPY . /\n", zeros: "" });
  await truncate(join(context, "zeros"), 2 ** 30);
  const roles = ["frontend", "backend", "host", "builder"] as const;
  const peaks = async () =>
    await Promise.all(roles.map(async (role) => peakBytes(await processOf(daemon, role))));
  const before = await peaks();
  await ok("build", "--tag", "large", context);
  const grown = (await peaks()).map((bytes, at) => Math.round((bytes - (before[at] ?? 0)) / 2 ** 20));
  assert.ok(
    grown.every((mebibytes) => mebibytes < 256),
    `the peaks of ${roles.join(", ")} grew by ${grown.join(", ")} MiB`,
  );
  const size = await ok("image", "inspect", "--format", "{{.Size}}", "large");
  assert.ok(Number(size) > 2 ** 30, size);
});

test("buildx has a BuildKit in a privileged container, and its image loaded", inSoak, async (t) => {
  const paths = await pathsOf(
    t,
    findPlugin("buildx"),
    buildForeignProgram("buildkit"),
    buildForeignProgram("buildctl"),
  );
  if (paths === undefined) {
    return;
  }
  const [plugin = "", ...programs] = paths;
  // Programs of Debian come with the libraries that it is linked to.
  const runc = await succeeds("sh", ["-c", "r=$(command -v runc) && echo $r && ldd $r | grep -o '/[^ ]*'"]);
  const image = await write("buildkit", {
    Dockerfile: 'FROM busybox\nCOPY root /\nVOLUME /var/lib/buildkit\nENTRYPOINT ["buildkitd"]\n',
  });
  for (const path of runc.split("\n")) {
    await mkdir(join(image, "root", dirname(path)), { recursive: true });
    await copyFile(path, join(image, "root", path));
  }
  await mkdir(join(image, "root/usr/bin"), { recursive: true });
  for (const path of programs) {
    await copyFile(path, join(image, "root/usr/bin", basename(path)));
  }
  await ok("build", "--tag", "sockerless/buildkit", image);

  const env = { DOCKER_CONFIG: await configWith(plugin) };
  const buildx = (...args: string[]) => succeeds("docker", ["buildx", ...args], env);
  const driver = ["--driver", "docker-container", "--driver-opt", "image=sockerless/buildkit"];
  await buildx("create", "--name", "apart", "--use", ...driver);
  assert.match(await buildx("inspect", "--bootstrap"), /Driver:\s+docker-container\n.*Status:\s+running\n/s);
  const files = await write("apart", {
    Dockerfile:
      "FROM scratch\nADD root.tar /\nRUN --mount=type=secret,id=token cp /run/secrets/token /made && echo built >> /made\n",
    token: "secret\n",
  });
  await copyFile(await busyboxRootfsFile(), join(files, "root.tar"));
  const secret = ["--secret", `id=token,src=${join(files, "token")}`];
  await buildx("build", "--load", ...secret, "--tag", "apart:1", files);
  assert.equal(await ok("run", "--rm", "apart:1", "cat", "/made"), "secret\nbuilt");
  assert.match(
    await ok("ps", "--format", "{{.Names}} {{.Image}}"),
    /^buildx_buildkit_apart0 sockerless\/buildkit$/,
  );
  await buildx("rm", "apart");
  assert.equal(await ok("ps", "--all", "--quiet"), "");
  assert.doesNotMatch(await ok("volume", "ls", "--quiet"), /buildx_buildkit/);
});
