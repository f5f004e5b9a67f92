/** Builds on the ECS backend: what of them is a task, and what AWS is asked for. */
import assert from "node:assert/strict";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildingArgs, buildsOnAnyCloud } from "../support/cloud-builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { busyboxImage } from "../support/images.ts";
import { processOf } from "../support/processes.ts";
import { buildProgram } from "../support/programs.ts";
import { TestRegistry } from "../support/registry.ts";
import { makeSshKey } from "../support/ssh-key.ts";
import { tarOf } from "../support/tar.ts";
import { inSoak } from "../support/soak.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });

describe("a build on ECS", () => {
  const registry = duringTests(() => TestRegistry.start());
  before(async () => registry.push("base", "1", await busyboxImage()));
  // A step has as long as that to follow another.
  const ecs = duringTests(() =>
    EcsDaemon.start({ leastPrivilege: true, ecs: { linger: "20m" }, daemon: { args: buildingArgs } }),
  );
  after(() => assert.deepEqual(ecs.deniedCalls, []));
  beforeEach(() => ecs.aws.calls.clear());

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);
  const socket = (): string => ecs.daemon.socket;
  const base = (): string => `FROM ${registry.host}/base:1`;
  const containers = (): Promise<string> =>
    ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build");
  const tasks = (): number => ecs.aws.calls.count("ecs.RunTask");
  const isIdle = (): boolean => ecs.aws.ecs.tasks.every(({ state }) => state.lastStatus === "STOPPED");

  buildsOnAnyCloud(
    () => ({
      daemon: ecs.daemon,
      base: `${registry.host}/base:1`,
      calls: ecs.aws.calls,
      startCall: "ecs.RunTask",
      lateCalls: [],
      isIdle,
      refused: [
        ["RUN --network=host true", /network\.host is not allowed/],
        ["RUN true", /the ecs backend does not support RUN --network=host/, { networkmode: "host" }],
        ["RUN true", /the ecs backend does not support --cgroup-parent/, { cgroupparent: "/x" }],
        ["RUN --mount=type=cache,target=/x,uid=7 true", /RUN --mount=type=cache with uid, gid, mode or from/],
        ["RUN --mount=type=cache,target=/x,from=base,source=/etc true", /with uid, gid, mode or from/],
        ["RUN --security=insecure true", /security\.insecure is not allowed|--security=insecure/],
      ],
      protectsMounts: true,
      directory: ecs.aws.context.directory,
    }),
    true,
  );

  it("keeps a task while one RUN of a stage follows another, each with a layer and an output of its own", async () => {
    const dockerfile = `${base()} AS first
RUN echo one > /one; echo says one; sleep 1000 & echo kept > /etc/os-release
USER app
RUN echo says $(cat /one) $(id -u) $(ps | grep -c '[s]leep'); echo two > /tmp/two
RUN echo says three; rm /tmp/two; echo three > /tmp/three
USER root
RUN rm /one
${base()}
RUN echo says four > /four
COPY --from=first /tmp/three /etc/os-release /
CMD ["sh", "-c", "cat /three /os-release /four; ls /"]
`;
    const { text, error, id } = await build(socket(), dockerfile, { query: { t: "kept:1" } });
    assert.equal(error, undefined, text);
    assert.deepEqual(
      text.split("\n").filter((line) => line.startsWith("says")),
      ["says one", "says one 1000 0", "says three"],
    );
    assert.equal(tasks(), 2);
    assert.ok(ecs.aws.calls.count("ecs.RegisterTaskDefinition") <= 1, "both begin with the same state");
    const others = Object.keys(ecs.aws.calls.counts()).filter(
      (call) => !/^ecs\.(RunTask|StopTask|RegisterTaskDefinition)$|\.(Describe|List|Get)/.test(call),
    );
    assert.deepEqual(others, [], "nothing else is changed in AWS");
    assert.equal(await containers(), "");
    assert.match(await ok("run", "--rm", "kept:1"), /^three\nkept\nsays four\n/);
    const first = await built(socket(), dockerfile, { query: { target: "first" } });
    const layers = JSON.parse(await ok("inspect", "--format", "{{json .RootFS.Layers}}", first)) as string[];
    assert.equal(layers.length, (await busyboxImage()).layers.length + 4);
    const listed = await ok(
      ...["run", "--rm", first, "sh", "-c", "ls /one /tmp/two /tmp/three 2>/dev/null; true"],
    );
    assert.equal(listed, "/tmp/three");
    assert.equal((await build(socket(), dockerfile)).id, id);
  });

  it(
    "keeps a task while files are copied, added and taken away between one RUN and another",
    inSoak,
    async () => {
      const dockerfile = `${base()} AS from
${base()}
RUN mkdir -p /app/old && echo ran > /app/old/file && echo first > /first
WORKDIR /app/work
COPY --chown=1000:1000 --chmod=640 a b/
COPY --from=from --link /etc/passwd /linked
ADD packed.tar /app/old/
RUN cat b/a /first > seen; stat -c '%a %u' b/a >> seen; cat /app/old/packed >> seen; head -n 1 /linked >> seen; rm /first
COPY a /etc/hosts
RUN ls / >> seen; grep -c copied /etc/hosts >> seen; echo "files: $(find /app -type f | wc -l)"
CMD ["sh", "-c", "cat /app/work/seen; find /app | sort; stat -c '%a %u:%g' /app/work/b/a"]
`;
      const packed = await tarOf([{ name: "packed", content: "packed\n" }]);
      const files = [
        { name: "a", content: "copied\n" },
        { name: "packed.tar", content: packed },
      ];
      const { id, text, error } = await build(socket(), dockerfile, { files, query: { t: "between:1" } });
      assert.equal(error, undefined, text);
      assert.equal(tasks(), 1, text);
      assert.match(text, /\nfiles: 4\n/);
      const printed = await ok("run", "--rm", "between:1");
      assert.match(printed, /^copied\nfirst\n640 1000\npacked\nroot:x:0:0/);
      assert.equal(printed.split("\n").filter((line) => line === "first").length, 1, "it was taken away");
      assert.match(printed, /\n0\n\/app\n\/app\/old\n\/app\/old\/file\n\/app\/old\/packed\n\/app\/work\n/);
      const layers = JSON.parse(
        await ok("inspect", "--format", "{{json .RootFS.Layers}}", "between:1"),
      ) as string[];
      assert.equal(layers.length, (await busyboxImage()).layers.length + 8);
      assert.equal((await build(socket(), dockerfile, { files })).id, id);
    },
  );

  it("has states between its steps that a user may run by their IDs", async () => {
    const states = async (): Promise<Set<string>> => {
      const listed = await ok(
        ...["images", "--all", "--quiet", "--no-trunc", "--filter", "label=sockerless.build"],
      );
      return new Set(listed.split("\n"));
    };
    const before = await states();
    await built(socket(), `${base()}\nRUN echo one > /one\nRUN echo two > /two`);
    const made = (await states()).difference(before);
    assert.ok(made.size > 0);
    for (const state of made) {
      assert.equal(await ok("run", "--rm", state, "echo", "ran"), "ran");
    }
  });

  it(
    "mounts single files of the context, of stages and of images in the task that there is",
    inSoak,
    async () => {
      const dockerfile = `${base()} AS made
RUN echo made > /made && chown 7:8 /made && chmod 640 /made && ln -s made /link
${base()}
RUN echo first > /first
RUN --mount=type=bind,source=tools/in,target=/etc/passwd --mount=type=bind,from=made,source=/link,target=/new/dir/made \\
  --mount=type=bind,from=base,source=/etc/group,target=/first,rw \\
  cat /etc/passwd /new/dir/made > /out; stat -c '%a %u:%g' /new/dir/made >> /out; grep -c ^root /first >> /out; rm /first
RUN cat /first >> /out; grep -c ^root /etc/passwd >> /out; ls -d /new >> /out 2>&1; ls -A / | grep -c aside >> /out; true
CMD ["cat", "/out"]
`;
      const files = [{ name: "tools/in", content: "tools\n" }];
      const from = dockerfile.replace("from=base", `from=${registry.host}/base:1`);
      const { text, error } = await build(socket(), from, { files, query: { t: "files:1" } });
      assert.equal(error, undefined, text);
      assert.equal(tasks(), 2, text);
      const printed = await ok("run", "--rm", "files:1");
      assert.equal(printed, "tools\nmade\n640 7:8\n1\nfirst\n1\nls: /new: No such file or directory\n0");
      const layers = `${base()}\nRUN --mount=type=bind,source=large,target=/large true\n`;
      const large = [{ name: "large", content: Buffer.alloc(5 * 1024 * 1024) }];
      const refused = await build(socket(), layers, { files: large });
      assert.match(refused.error?.message ?? "", /\/large takes 5242880 bytes: .* its directory any number/);
    },
  );

  it("goes on in the task of a step when the backend is killed while that begins", async () => {
    const before = ecs.aws.ecs.tasks.length;
    const dockerfile = `${base()}\nRUN echo said; cat /proc/sys/kernel/random/uuid >> /once\n`;
    const answer = build(socket(), dockerfile, { query: { t: "survived:1", nocache: "1" } });
    await untilTrue(() => tasks() > 0);
    const backend = await processOf(ecs.daemon, "backend");
    process.kill(backend, "SIGKILL");
    const { error, text } = await answer;
    assert.equal(error, undefined, text);
    assert.match(text, /\nsaid\n/);
    assert.equal(ecs.aws.ecs.tasks.length - before, 1);
    assert.equal(await containers(), "");
    assert.match(await ok("run", "--rm", "survived:1", "wc", "-l", "/once"), /^1 /);
    await untilTrue(isIdle);
  });

  it("takes along what a builder that was killed has left", async () => {
    const answer = build(socket(), `${base()}\nRUN sleep 1000\n`).catch(() => undefined);
    await untilTrue(async () => (await ok("ps", "--quiet", "--filter", "label=sockerless.build")) !== "");
    process.kill(await processOf(ecs.daemon, "builder"), "SIGKILL");
    await answer;
    await untilTrue(async () => (await containers()) === "");
    await untilTrue(isIdle);
  });

  it("forwards its client's SSH agent to a step, by the agent of its task", {
    timeout: pluginLimitMs,
  }, async (t) => {
    const plugin = await findPlugin("buildx");
    if ("missing" in plugin) {
      t.skip(plugin.missing);
      return;
    }
    await installPlugin(ecs.daemon, plugin.path);
    const directory = scratchDirectory();
    const { pem, blob } = makeSshKey();
    const key = join(directory, "key");
    await writeFile(key, pem, { mode: 0o600 });
    await writeFile(join(directory, ".dockerignore"), "key\n");
    await copyFile(await buildProgram("sshkeys"), join(directory, "sshkeys"));
    const dockerfile = `${base()}
COPY --chmod=755 sshkeys /bin/
RUN --mount=type=ssh --mount=type=ssh,id=none,target=/none sshkeys > /out && sshkeys >> /out; \\
  stat -c '%a %u' $SSH_AUTH_SOCK >> /out; test ! -e /none && (sshkeys & sshkeys & wait) >> /out
USER 1000
RUN --mount=type=ssh,uid=1000,mode=0700,target=/own/sock SSH_AUTH_SOCK=/own/sock sshkeys > /tmp/out; stat -c '%a %u' /own/sock >> /tmp/out
RUN test ! -e /run/buildkit -a ! -e /own -a -z "$SSH_AUTH_SOCK"
`;
    await writeFile(join(directory, "Dockerfile"), dockerfile);
    const given = ["--ssh", `default=${key}`, "--tag", "ssh:1"];
    const { code, errorText } = await ecs.daemon.docker("buildx", "build", ...given, directory);
    assert.equal(code, 0, errorText);
    assert.equal(tasks(), 1);
    const found = await ok("run", "--rm", "ssh:1", "cat", "/out", "/tmp/out");
    assert.deepEqual(found.split("\n"), [blob, blob, "600 0", blob, blob, blob, "700 1000"]);
    assert.equal(await containers(), "");
  });

  it("has a foreign frontend run as a task", { ...inSoak, timeout: programLimitMs }, async (t) => {
    const program = await buildForeignProgram("frontend");
    if ("missing" in program) {
      t.skip(program.missing);
      return;
    }
    const frontend = `FROM scratch\nCOPY --chmod=755 frontend /bin/\nENTRYPOINT ["/bin/frontend"]\n`;
    const files = [{ name: "frontend", content: await readFile(program.path) }];
    const name = `${registry.host}/own/frontend:1`;
    await built(socket(), frontend, { files, query: { t: name } });
    await ok("push", name);
    ecs.aws.calls.clear();
    const made = await built(socket(), `# syntax=${name}\n${base()}\nRUN echo ran > /ran\n`);
    assert.equal(tasks(), 2, "its own, and the stage's");
    assert.equal(await ok("run", "--rm", made, "cat", "/ran"), "ran");
    assert.equal(await containers(), "");
  });

  it("that its client leaves takes its task along", async () => {
    const body = await tarOf([{ name: "Dockerfile", content: `${base()}\nRUN echo runs; sleep 1000\n` }]);
    const headers = { "Content-Type": "application/x-tar" };
    const call = request({ socketPath: socket(), path: "/v1.48/build", method: "POST", headers });
    call.on("error", () => {}); // Its own end.
    call.end(body);
    await untilTrue(async () => (await ok("ps", "--quiet", "--filter", "label=sockerless.build")) !== "");
    call.destroy();
    await untilTrue(async () => (await containers()) === "");
    await untilTrue(isIdle);
  });
});

describe("a build on ECS without a file system", () => {
  it("is told that its cache mounts are shared by nobody", inSoak, async () => {
    await using ecs = await EcsDaemon.start({ ecs: { efs_filesystem_id: undefined } });
    const dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/kept ls -A /kept; touch /kept/file\n";
    const { text, error } = await build(ecs.daemon.socket, dockerfile);
    assert.equal(error, undefined, text);
    const warning = "the ecs backend does not apply RUN --mount=type=cache (without ecs.efs_filesystem_id)";
    assert.ok(text.includes(`\n\u001b[91mwarning: ${warning}`), text);
  });
});
