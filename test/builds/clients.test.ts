/** Builds by the clients that CI and tests use: SDKs, compose and bake, a job in its own container. */
import assert from "node:assert/strict";
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, test } from "node:test";
import Docker from "dockerode";

import { compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs, runCommand } from "../support/command.ts";
import { buildProgram } from "../support/programs.ts";
import { entriesOf, tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();
const directory = scratchDirectory();
/** Writes files beneath a directory of the test's own, and answers it. */
const write = (name: string, files: Readonly<Record<string, string>>) =>
  writeFiles(join(directory, name), files);

interface Progress {
  readonly stream?: string;
  readonly error?: string;
  readonly aux?: { readonly ID?: string };
}

test("dockerode builds a directory, and an archive with testcontainers' options", async () => {
  const client = new Docker({ socketPath: daemon.socket });
  const built = async (stream: NodeJS.ReadableStream): Promise<readonly Progress[]> =>
    await new Promise((resolve, reject) => {
      client.modem.followProgress(stream, (error: Error | null, all: Progress[]) =>
        error ? reject(error) : resolve(all),
      );
    });
  const context = await write("dockerode", { Dockerfile: "FROM busybox\nCOPY a /a\n", a: "by dockerode" });
  const told = await built(
    await client.buildImage({ context, src: ["Dockerfile", "a"] }, { t: "dockerode:1" }),
  );
  assert.equal(await ok("run", "--rm", "dockerode:1", "cat", "/a"), "by dockerode");
  assert.equal(
    told.find(({ aux }) => aux?.ID !== undefined)?.aux?.ID,
    await ok("inspect", "--format", "{{.Id}}", "dockerode:1"),
  );
  // As `GenericContainer.fromDockerfile(…).withBuildArgs(…).withTarget(…).build()` asks.
  const archive = await tarOf([
    {
      name: "sub/Dockerfile.test",
      content: "FROM busybox AS first\nARG WHO\nRUN echo for $WHO > /who\nFROM first\nRUN false\n",
    },
  ]);
  const options = {
    t: "localhost/testcontainers:1",
    dockerfile: "sub/Dockerfile.test",
    buildargs: { WHO: "a test" },
    labels: { "org.testcontainers": "true", "org.testcontainers.session-id": "0123" },
    target: "first",
    nocache: true,
    rm: true,
    forcerm: true,
  };
  const { Readable } = await import("node:stream");
  await built(await client.buildImage(Readable.from([archive]), options));
  assert.equal(await ok("run", "--rm", options.t, "cat", "/who"), "for a test");
  assert.equal(
    await ok("images", "--quiet", "--no-trunc", "--filter", "label=org.testcontainers.session-id=0123"),
    await ok("inspect", "--format", "{{.Id}}", options.t),
  );
  await assert.rejects(async () => {
    const failed = await built(await client.buildImage(Readable.from([archive]), { ...options, target: "" }));
    assert.deepEqual(
      failed.filter(({ error }) => error !== undefined),
      [],
    );
  }, /The command '\/bin\/sh -c false' returned a non-zero code: 1/);
});

test("compose builds and runs its services, and bake its targets", {
  timeout: pluginLimitMs * 2,
}, async (t) => {
  for (const name of ["buildx", "compose"] as const) {
    const found = await findPlugin(name);
    if ("missing" in found) {
      t.skip(found.missing);
      return;
    }
    await installPlugin(daemon, found.path);
  }
  const project = await write("compose", {
    "compose.yaml": `
services:
  app:
    build: { context: app, args: { WHO: compose }, target: ready, additional_contexts: { more: ./more } }
    command: cat /who /more
  other:
    build:
      context: app
      dockerfile_inline: |
        FROM busybox
        COPY file /inline
    image: inline:1
`,
    "app/Dockerfile":
      "FROM busybox AS ready\nARG WHO\nRUN echo built by $WHO > /who\nCOPY --from=more file /more\nFROM ready\nRUN false\n",
    "app/file": "inline\n",
    "more/file": "more\n",
    "docker-bake.hcl": `
group "default" { targets = ["a", "b"] }
target "a" {
  context = "app"
  target = "ready"
  args = { WHO = "bake" }
  contexts = { more = "more" }
  tags = ["bake:a"]
}
target "b" {
  context = "app"
  dockerfile-inline = "FROM start\\nCOPY file /b\\n"
  contexts = { start = "target:a" }
  tags = ["bake:b"]
}
`,
  });
  const compose = (...args: string[]) =>
    ok("compose", "--ansi", "never", "--project-directory", project, "--project-name", "builds", ...args);
  await compose("build");
  assert.equal(await compose("run", "--rm", "app"), "built by compose\nmore");
  assert.equal(await ok("run", "--rm", "inline:1", "cat", "/inline"), "inline");
  await compose("down", "--timeout", "0");
  const baked = await daemon.dockerWith({ cwd: project }, "buildx", "bake", "--progress", "plain");
  assert.equal(baked.code, 0, baked.errorText);
  assert.equal(await ok("run", "--rm", "bake:b", "cat", "/who", "/b"), "built by bake\ninline");
});

test("a docker CLI of 2020 builds by the BuildKit that it has built in", async (t) => {
  const cli = "/usr/bin/docker";
  const version = await runCommand(cli, ["--version"]).catch(() => undefined);
  if (version?.text.includes(" 20.10.") !== true) {
    t.skip("Debian's docker.io 20.10 is not installed");
    return;
  }
  const env = { ...daemon.clientEnv, DOCKER_BUILDKIT: "1" };
  const context = await write("old", {
    Dockerfile: `FROM busybox AS one
RUN --mount=type=secret,id=token sha256sum < /run/secrets/token > /seen
FROM scratch AS files
COPY --from=one /seen /d/
COPY file /d/
FROM one
COPY file /
`,
    file: "old\n",
    token: "secret",
  });
  const buildWith = async (input: Uint8Array | undefined, ...args: string[]): Promise<string> => {
    const secret = ["--secret", `id=token,src=${join(context, "token")}`];
    const given = { env, cwd: context, ...(input !== undefined && { input }) };
    const { code, text, errorText } = await runCommand(cli, ["build", ...secret, ...args], given);
    assert.equal(code, 0, errorText);
    return text;
  };
  const buildHere = (...args: string[]) => buildWith(undefined, ...args, ".");
  await buildHere("--tag", "old:1");
  assert.equal(await ok("run", "--rm", "old:1", "cat", "/file"), "old");
  assert.equal(await buildHere("--quiet"), await ok("inspect", "--format", "{{.Id}}", "old:1"));
  await buildHere("--target", "files", "--output", "out");
  assert.equal(await readFile(join(context, "out/d/file"), "utf8"), "old\n");
  await buildHere("--target", "files", "--output", "type=tar,dest=out.tar");
  const names = (await entriesOf(await readFile(join(context, "out.tar")))).map(({ name }) => name);
  assert.ok(names.includes("d/file"), String(names));
  const archive = await tarOf([
    { name: "Dockerfile", content: await readFile(join(context, "Dockerfile")) },
    { name: "file", content: "uploaded\n" },
  ]);
  await buildWith(archive, "--tag", "old:2", "-");
  assert.equal(await ok("run", "--rm", "old:2", "cat", "/file"), "uploaded");
});

test("a job builds in its own container by the mounted socket, and runs what it has built", async () => {
  const work = await write("job", {
    Dockerfile: "FROM busybox\nCOPY file /file\nRUN echo built >> /file\n",
    file: "in a job\n",
  });
  await copyFile(await buildProgram("cibuild"), join(work, "cibuild"));
  const output = await ok(
    ...["run", "--rm", "--volume", "/var/run/docker.sock:/var/run/docker.sock", "--volume", `${work}:/work`],
    ...["--workdir", "/work", "busybox", "/work/cibuild", "cat", "/file"],
  );
  assert.equal(output, "in a job\nbuilt");
  assert.equal(await ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build"), "");
});
