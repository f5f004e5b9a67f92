/** Builds before a cloud, as far as they are alike on all: what of them is a task, and what it is asked for. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";

import { build, built } from "./builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "./cli-plugins.ts";
import { runCommand } from "./command.ts";
import type { Daemon } from "./daemon.ts";
import { callApi } from "./call-api.ts";
import { buildProgram } from "./programs.ts";
import { makeSshKey } from "./ssh-key.ts";
import { entriesOf } from "./tar.ts";
import { untilTrue } from "./until.ts";
import { writeFiles } from "./write-files.ts";
import { inSoak, sampled } from "./soak.ts";

/** Bytes that the build cache of the daemon may hold. */
const cacheBytes = 64 * 2 ** 20;

/** Arguments of the daemon. */
export const buildingArgs: readonly string[] = ["--builder-cache-size", String(cacheBytes)];

/** The calls that a cloud was asked to make since the last {@link clear}. */
export interface CloudCalls {
  all(): readonly unknown[];
  count(name: string): number;
  /** Counts by name. */
  counts(): Readonly<Record<string, number>>;
  clear(): void;
}

/** A cloud and a daemon before it, which has {@link buildingArgs}. */
export interface BuildingCloud {
  readonly daemon: Daemon;
  /** The image that builds begin with. */
  readonly base: string;
  /** Cleared before each test. */
  readonly calls: CloudCalls;
  /** The call that starts a task: `ecs.RunTask`. */
  readonly startCall: string;
  /** Calls that are made some time later, for tasks of containers that are gone. */
  readonly lateCalls: readonly string[];
  /** Whether no task is left, or one that has ended. */
  isIdle(): boolean | Promise<boolean>;
  /** Instructions that no task can have, and what is told then; with the request's query. */
  readonly refused: readonly (readonly [string, RegExp, Record<string, string>?])[];
  /** Whether a step cannot write to a directory that it mounts without `rw`. */
  readonly protectsMounts: boolean;
  /** The cloud's directory. */
  readonly directory: string;
}

/**
 * Declares the tests of a group.
 *
 * @param opened the cloud, once it is open
 * @param isWhole whether `npm test` runs all of them here; else what differs most between clouds
 */
export function buildsOnAnyCloud(opened: () => BuildingCloud, isWhole: boolean): void {
  const whole = sampled(isWhole);
  const ok = (...args: string[]): Promise<string> => opened().daemon.ok(...args);
  const socket = (): string => opened().daemon.socket;
  const base = (): string => `FROM ${opened().base}`;
  const containers = (): Promise<string> =>
    ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build");
  const tasks = (): number => opened().calls.count(opened().startCall);
  /** Calls that are more than a look at what there is. */
  const changes = (): string[] =>
    Object.keys(opened().calls.counts()).filter(
      (call) => !/[._](Describe|List|Get|Watch)/i.test(call) && !opened().lateCalls.includes(call),
    );

  it("without RUN starts no task and has the cloud make nothing, and its image runs", async () => {
    const dockerfile = `${base()} AS base
COPY --chown=app:app --chmod=640 a /etc/init.d/
${base()}
COPY --from=base /etc/init.d/a /etc/passwd /copied/
COPY --link a /linked
CMD ["sh", "-c", "cat /copied/a /linked; stat -c ' %a %u:%g' /copied/a; head -n 1 /copied/passwd"]
`;
    const files = [{ name: "a", content: "copied" }];
    const { text, error } = await build(socket(), dockerfile, { files, query: { t: "copied:1" } });
    assert.equal(error, undefined, text);
    assert.deepEqual(changes(), []);
    assert.equal(await containers(), "");
    const printed = await ok("run", "--rm", "copied:1");
    assert.equal(printed, "copiedcopied 640 1000:1000\nroot:x:0:0:root:/root:/bin/sh");
  });

  it("makes images of files alone for several platforms, without a task", {
    timeout: pluginLimitMs,
  }, async (t) => {
    const plugin = await findPlugin("buildx");
    if ("missing" in plugin) {
      t.skip(plugin.missing);
      return;
    }
    const { daemon } = opened();
    await installPlugin(daemon, plugin.path);
    const directory = await mkdtemp(join(tmpdir(), "skl-context-"));
    t.after(() => rm(directory, { recursive: true }));
    await writeFiles(directory, { Dockerfile: "FROM scratch\nCOPY a /\n", a: "a" });
    const archive = join(directory, "image.tar");
    const args = ["--platform", "linux/amd64,linux/arm64", "--provenance=false", directory];
    const made = await daemon.docker("buildx", "build", "--output", `type=oci,dest=${archive}`, ...args);
    assert.equal(made.code, 0, made.errorText);
    const entries = await entriesOf(await readFile(archive));
    const content = (name: string): unknown =>
      JSON.parse(entries.find((entry) => entry.name === name)?.content.toString() ?? "null");
    const [{ digest }] = (content("index.json") as { readonly manifests: [{ readonly digest: string }] })
      .manifests;
    const { manifests } = content(`blobs/${digest.replace(":", "/")}`) as {
      readonly manifests: readonly { readonly platform: { readonly architecture: string } }[];
    };
    assert.deepEqual(
      manifests.map(({ platform }) => platform.architecture),
      ["amd64", "arm64"],
    );
    assert.deepEqual(changes(), []);
  });

  it("runs what a RUN says in a task, which stays for what follows, and whose changes are layers", async () => {
    const dockerfile = `${base()}
RUN echo one > /one && rm /etc/os-release && chmod 4755 /bin/busybox
COPY a /tmp/
USER app
RUN cat /one /tmp/a > /tmp/both; id -u >> /tmp/both; echo said
CMD ["sh", "-c", "cat /tmp/both; ls /etc/os-release; stat -c '%a %u' /tmp/both /bin/busybox"]
`;
    const files = [{ name: "a", content: "two\n" }];
    const { id, text, error } = await build(socket(), dockerfile, { files, query: { t: "ran:1" } });
    assert.equal(error, undefined, text);
    assert.match(text, /\nsaid\n/);
    assert.equal(tasks(), 1, "a COPY between them is put into it");
    assert.equal(await containers(), "");
    const { text: printed } = await opened().daemon.docker("run", "--rm", "ran:1");
    assert.equal(printed, "one\ntwo\n1000\n644 1000\n4755 0");
    opened().calls.clear();
    const again = await build(socket(), dockerfile, { files });
    assert.equal(again.id, id, again.text);
    assert.deepEqual(changes(), []);
  });

  it("shares cache mounts, and mounts directories of stages and of the context", async () => {
    const dockerfile = (n: number) => `${base()} AS made
RUN mkdir /made && echo made > /made/in
${base()}
RUN --mount=type=cache,target=/kept --mount=type=bind,from=made,source=/made,target=/data \\
  --mount=type=bind,source=tools,target=/tools echo ${n} >> /kept/n; cat /kept/n /data/in /tools/in > /out
CMD ["sh", "-c", "cat /out; ls -A /kept /data /tools"]
`;
    const files = [{ name: "tools/in", content: "tools\n" }];
    await built(socket(), dockerfile(1), { files });
    await built(socket(), dockerfile(2), { files, query: { t: "cached:1" } });
    const { text } = await opened().daemon.docker("run", "--rm", "cached:1");
    assert.equal(text, "1\n2\nmade\ntools");
  });

  it("throws away what a RUN writes to its mounts, where these are rw", inSoak, async () => {
    const dockerfile = `${base()} AS made
RUN mkdir -p /made/old && echo made > /made/in
${base()}
RUN --mount=type=bind,from=made,source=/made,target=/a,rw --mount=type=bind,from=made,source=/made,target=/new/b,rw \\
  --mount=type=bind,source=tools,target=/tools,rw --mount=type=bind,source=tools,target=/kept \\
  echo mine > /a/in; rmdir /a/old; echo new > /tools/new; cat /a/in /new/b/in /tools/new > /out; ls /new/b >> /out; \\
  touch /kept/not 2>> /out; ls /kept >> /out
RUN ls -d /a /new /tools /kept 2> /dev/null >> /out; true
CMD ["sh", "-c", "cat /out; ls -d /a /new /tools /kept 2>/dev/null; true"]
`;
    const files = [{ name: "tools/in", content: "tools\n" }];
    await built(socket(), dockerfile, { files, query: { t: "written:1" } });
    const printed = await ok("run", "--rm", "written:1");
    const kept = opened().protectsMounts ? "touch: /kept/not: Read-only file system\nin" : "in\nnot";
    assert.equal(printed, `mine\nmade\nnew\nin\nold\n${kept}`);
  });

  it("refuses by name what a task cannot have, and leaves nothing of it", async () => {
    for (const [instruction, message, query = {}] of opened().refused) {
      const dockerfile = `# syntax=docker/dockerfile:1-labs\n${base()} AS base\n${base()}\n${instruction}\n`;
      const { error } = await build(socket(), dockerfile, { query });
      assert.match(error?.message ?? "", message, instruction);
    }
    assert.equal(await containers(), "");
    assert.equal(tasks(), 0);
  });

  it("that fails tells the exit code, and leaves neither container nor task", whole, async () => {
    const { error, text } = await build(socket(), `${base()}\nRUN echo before; exit 7\n`);
    assert.equal(error?.code, 7, text);
    assert.equal(await containers(), "");
    await untilTrue(() => opened().isIdle());
  });

  it("gives its steps their secrets by the agent alone", { ...whole, timeout: pluginLimitMs }, async (t) => {
    const plugin = await findPlugin("buildx");
    if ("missing" in plugin) {
      t.skip(plugin.missing);
      return;
    }
    const { daemon, calls } = opened();
    await installPlugin(daemon, plugin.path);
    const secret = `secret-${randomUUID()}`;
    const directory = await mkdtemp(join(tmpdir(), "skl-context-"));
    t.after(() => rm(directory, { recursive: true }));
    await writeFiles(directory, {
      token: secret,
      Dockerfile: `${base()}
RUN --mount=type=secret,id=token,mode=440,uid=1000 --mount=type=secret,id=token,target=/etc/passwd \
  stat -c '%a %u' /run/secrets/token > /seen; sha256sum < /run/secrets/token >> /seen; wc -l < /etc/passwd >> /seen
COPY Dockerfile /etc/passwd
RUN --mount=type=secret,id=token,env=TOKEN printf %s "$TOKEN" | sha256sum >> /seen; ls -A /run >> /seen; test -z "$OTHER"
RUN echo "\${TOKEN-none}" >> /seen; grep -c '^COPY' /etc/passwd >> /seen
`,
    });
    const given = ["--secret", `id=token,src=${join(directory, "token")}`, "--tag", "secrets:1"];
    const { code, errorText } = await daemon.docker("buildx", "build", ...given, directory);
    assert.equal(code, 0, errorText);
    assert.equal(tasks(), 1);
    const digest = createHash("sha256").update(secret).digest("hex");
    const seen = await ok("run", "--rm", "secrets:1", "cat", "/seen");
    assert.equal(seen, `440 1000\n${digest}  -\n0\n${digest}  -\nnone\n1`);
    await ok("save", "--output", join(directory, "image.tar"), "secrets:1");
    const kept = await runCommand("grep", [
      ...["-rlaF", "--devices=skip", secret],
      ...[directory, daemon.stateDir, daemon.runDir, opened().directory],
    ]);
    assert.equal(kept.text, join(directory, "token"), "nobody else has it");
    assert.doesNotMatch(JSON.stringify(calls.all()), new RegExp(secret));
    assert.equal(await containers(), "");
  });

  it("reaches its client's SSH agent, and has single files mounted", {
    ...whole,
    timeout: pluginLimitMs,
  }, async (t) => {
    const plugin = await findPlugin("buildx");
    if ("missing" in plugin) {
      t.skip(plugin.missing);
      return;
    }
    const { daemon } = opened();
    await installPlugin(daemon, plugin.path);
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
    const { code, errorText } = await daemon.docker("buildx", "build", ...given, directory);
    assert.equal(code, 0, errorText);
    assert.equal(await ok("run", "--rm", "ssh:1", "cat", "/out"), `${blob}\ntold`);
  });

  it("keeps its cache within its size, and its images whole", inSoak, async () => {
    const cache = async (): Promise<readonly { readonly Size: number; readonly Description: string }[]> => {
      const usage = await callApi(socket(), "GET", "/v1.48/system/df?type=build-cache");
      return (usage.json() as { BuildCache: Awaited<ReturnType<typeof cache>> | null }).BuildCache ?? [];
    };
    const size = cacheBytes + 1024;
    const dockerfile = `${base()}\nRUN echo small > /small\nRUN head -c ${size} /dev/urandom > /large\n`;
    const { text, error } = await build(socket(), dockerfile, { query: { t: "large:1" } });
    assert.equal(error, undefined, text);
    await untilTrue(async () => (await cache()).reduce((sum, { Size }) => sum + Size, 0) <= cacheBytes);
    const left = (await cache()).map(({ Description }) => Description).join("\n");
    assert.match(left, /echo small/);
    assert.doesNotMatch(left, /urandom/);
    assert.equal(await ok("run", "--rm", "large:1", "stat", "-c", "%s", "/large"), String(size));
  });
}
