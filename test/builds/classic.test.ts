/** `POST /build`, as the docker CLI without buildx and most SDKs use it. */
import assert from "node:assert/strict";
import { readdir, readlink, stat, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";

import { build, built, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { GitServer } from "../support/git-server.ts";
import { busyboxArchiveFile, busyboxImage } from "../support/images.ts";
import { listenHere } from "../support/listen-here.ts";
import { isAlive, processOf } from "../support/processes.ts";
import { filesWithCredentials, registryUser, TestRegistry } from "../support/registry.ts";
import { tarOf } from "../support/tar.ts";
import { until, untilTrue } from "../support/until.ts";
import { startDaemon, withDaemon } from "../support/with-daemon.ts";
import { inSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();
const socket = () => daemon.socket;

/** IDs of the containers of builds. */
const containersOfBuilds = () => ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build");

/** Directories of contexts that builds have left. */
const leftOfContexts = async () =>
  (await readdir(join(daemon.stateDir, "builder/scratch"))).filter((name) => /^(context|upload)-/.test(name));

/** Output of a command in an image. */
const run = (image: string, ...command: string[]) => ok("run", "--rm", image, ...command);

describe("a build", () => {
  test("makes the image that its Dockerfile says, by stages, copies, owners and commands", async () => {
    const dockerfile = `
FROM busybox AS maker
ARG WHO=nobody
RUN echo made for $WHO > /made && ln -s made /link
FROM busybox
LABEL kind=test
ENV GREETING=hi
WORKDIR /work/here
COPY --from=maker /made .
COPY --chown=app:app --chmod=600 secret.txt /tmp/
COPY tree/ /bin/../opt/
RUN echo "$GREETING" > greeting && chmod 4755 /bin/busybox && rm /etc/os-release
USER app
CMD ["cat", "made", "greeting"]
`;
    const files = [
      { name: "secret.txt", content: "for app" },
      { name: "tree/a/deep.txt", content: "deep", mode: 0o640 },
      { name: "tree/link", type: "symlink" as const, linkname: "a/deep.txt" },
    ];
    const { text, id, error } = await build(socket(), dockerfile, {
      files,
      query: {
        t: "made:1",
        buildargs: JSON.stringify({ WHO: "you" }),
        labels: JSON.stringify({ more: "x" }),
      },
    });
    assert.equal(error, undefined, text);
    assert.match(text, /^Step 1\/13 : FROM busybox AS maker\n/);
    assert.match(text, /\nStep 13\/13 : CMD \["cat", "made", "greeting"\]\n/);
    assert.match(text, new RegExp(`Successfully built ${id?.slice(7, 19)}\nSuccessfully tagged made:1\n$`));
    assert.equal(await run("made:1"), "made for you\nhi");
    const [image] = JSON.parse(await ok("inspect", "made:1")) as [
      { Id: string; Config: Record<string, unknown> },
    ];
    assert.equal(image.Id, id);
    assert.deepEqual(image.Config["Labels"], { kind: "test", more: "x" });
    assert.deepEqual([image.Config["User"], image.Config["WorkingDir"]], ["app", "/work/here"]);
    const listed = await run(
      ...["made:1", "stat", "-c", "%n %a %u:%g", "/tmp/secret.txt", "/opt/a/deep.txt", "/bin/busybox"],
      "/tmp",
    );
    assert.deepEqual(listed.split("\n"), [
      "/tmp/secret.txt 600 1000:1000",
      "/opt/a/deep.txt 640 0:0",
      "/bin/busybox 4755 0:0",
      "/tmp 1777 0:0",
    ]);
    assert.equal(await run("made:1", "readlink", "/opt/link"), "a/deep.txt");
    assert.equal((await daemon.docker("run", "--rm", "made:1", "cat", "/etc/os-release")).code, 1);
    const history = await ok("history", "--no-trunc", "--format", "{{.CreatedBy}}", "made:1");
    assert.match(
      history,
      /^CMD \["cat" "made" "greeting"\]\nUSER app\nRUN \/bin\/sh -c echo "\$GREETING" > greeting/,
    );
  });

  test("is taken from the cache a second time, and gives the same image", async () => {
    const dockerfile = "FROM busybox\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /once\n";
    const files = [{ name: "a", content: "one" }];
    const first = await build(socket(), dockerfile, { files });
    const second = await build(socket(), dockerfile, { files });
    assert.equal(second.id, first.id);
    assert.match(second.text, /RUN cat .*\n ---> Using cache\n/);
    const other = await build(socket(), dockerfile, { files: [{ name: "a", content: "two" }] });
    assert.notEqual(other.id, first.id);
    const anew = await build(socket(), dockerfile, { files, query: { nocache: "1" } });
    assert.notEqual(anew.id, first.id);
  });

  test("of a client of API 1.24 is told in its stream", async () => {
    const body = await tarOf([{ name: "Dockerfile", content: "FROM busybox\nRUN echo of 1.24\n" }]);
    const headers = { "Content-Type": "application/x-tar" };
    const { status, text } = await callApi(socket(), "POST", "/v1.24/build?t=of:24", { body, headers });
    assert.equal(status, 200, text);
    const told = text
      .trim()
      .split("\r\n")
      .map((line) => (JSON.parse(line) as { readonly stream?: string }).stream ?? "")
      .join("");
    assert.match(told, /^Step 1\/2 : FROM busybox\n.*\nof 1\.24\n.*Successfully built [0-9a-f]{12}\n/s);
    assert.match(told, /Successfully tagged of:24\n$/);
    assert.match(await ok("image", "inspect", "--format", "{{.Id}}", "of:24"), /^sha256:/);
  });

  test("is told by an event for each of its names", async () => {
    const since = Date.now() / 1000;
    const { id } = await build(socket(), "FROM busybox\nLABEL told=1\n", { query: { t: "told:1" } });
    const filters = [
      "--filter=type=image",
      "--filter=event=tag",
      "--format={{.ID}} {{.Actor.Attributes.name}}",
    ];
    const told = await ok("events", `--since=${since}`, `--until=${Date.now() / 1000}`, ...filters);
    assert.equal(told, `${id} told:1`);
  });

  test("that fails tells the command, its exit code and its output, and leaves nothing", async () => {
    const { text, error } = await build(socket(), "FROM busybox\nRUN echo to stderr >&2; exit 3\n");
    assert.ok(
      text.includes("Step 2/2 : RUN echo to stderr >&2; exit 3\n\u001b[91mto stderr\n\u001b[0m"),
      JSON.stringify(text),
    );
    assert.deepEqual(error, {
      code: 3,
      message: "The command '/bin/sh -c echo to stderr >&2; exit 3' returned a non-zero code: 3",
    });
    assert.equal(await containersOfBuilds(), "");
  });

  test("says what is wrong with its Dockerfile, its context or its base", async () => {
    const wrong = async (dockerfile: string, query: Readonly<Record<string, string>> = {}) =>
      await build(socket(), dockerfile, { query });
    const parsed = await wrong("FROM busybox\nRUNN x\n");
    assert.equal(parsed.status, 400);
    assert.match(parsed.text, /^dockerfile parse error on line 2: unknown instruction: RUNN/);
    assert.deepEqual(await wrong("# nothing\n").then(({ status, text }) => [status, text]), [
      400,
      "failed to parse Dockerfile: file with no instructions",
    ]);
    const onNothing = await wrong("FROM busybox\n", { platform: "nope" });
    assert.equal(onNothing.status, 400);
    assert.match(onNothing.text, /^"nope": unknown operating system or architecture/);
    assert.match(
      (await wrong("FROM busybox\n", { dockerfile: "other" })).text,
      /^Cannot locate specified Dockerfile: other$/,
    );
    assert.match(
      (await wrong("FROM busybox\nCOPY nothing /\n")).error?.message ?? "",
      /"\/nothing": not found/,
    );
    assert.match(
      (await wrong("FROM busybox\n", { target: "no" })).text,
      /target stage "no" could not be found/,
    );
    assert.match((await wrong("FROM no-such.invalid/image\n")).error?.message ?? "", /no-such\.invalid/);
  });

  test("refuses by name what is not built", async () => {
    for (const [query, feature] of [
      [{ squash: "1" }, "--squash"],
      [{ networkmode: "some-net" }, "--network some-net"],
    ] as const) {
      const { status, text } = await build(socket(), "FROM busybox\n", { query });
      assert.equal(status, 501, text);
      assert.ok(text.startsWith("sockerless: docker build ") && text.includes(feature), text);
    }
    for (const [instruction, feature] of [
      ["RUN --mount=type=ssh,required true", /no SSH key "default" forwarded from the client/],
      ["RUN --mount=type=secret,id=x,required true", /secret x: not found/],
      ["RUN --mount=type=secret,id=x,env=X,required true", /secret x: not found/],
      ["ADD http://169.254.169.254/x.git /x", /the address of a metadata service/],
    ] as const) {
      const { error } = await build(socket(), `FROM busybox\n${instruction}\n`);
      assert.match(error?.message ?? "", feature);
    }
  });

  test("gives its steps the limits that containers have", async () => {
    const limits = {
      ...{ memory: String(2 ** 26), memswap: String(2 ** 27), cpushares: "512", cpuperiod: "50000" },
      ...{ cpuquota: "25000", cpusetcpus: "0", cpusetmems: "0", shmsize: String(2 ** 20) },
      ulimits: JSON.stringify([{ Name: "nofile", Soft: 100, Hard: 200 }]),
    };
    const dockerfile =
      "FROM busybox\nRUN ulimit -n > /seen; ulimit -Hn >> /seen; df -k /dev/shm | awk 'END { print $2 }' >> /seen; touch /ready; sleep 1000\n";
    const query = { ...limits, buildid: "limited", nocache: "1" };
    const answer = build(socket(), dockerfile, { query });
    const id = await until(
      async () => (await ok("ps", "--quiet", "--filter", "label=sockerless.build")) || undefined,
    );
    const [told] = JSON.parse(await ok("inspect", id)) as [{ HostConfig: Record<string, unknown> }];
    for (const [name, value] of [
      ...[["Memory", 2 ** 26] as const, ["MemorySwap", 2 ** 27] as const, ["CpuShares", 512] as const],
      ...[["CpuPeriod", 50_000] as const, ["CpuQuota", 25_000] as const, ["CpusetCpus", "0"] as const],
      ...[["CpusetMems", "0"] as const, ["ShmSize", 2 ** 20] as const],
    ]) {
      assert.equal(told.HostConfig[name], value, name);
    }
    await untilTrue(async () => (await daemon.docker("exec", id, "test", "-e", "/ready")).code === 0);
    assert.equal(await ok("exec", id, "cat", "/seen"), "100\n200\n1024");
    assert.equal((await callApi(socket(), "POST", "/build/cancel?id=limited")).status, 200);
    await answer;
    const refused = async (wrong: Record<string, string>) =>
      await build(socket(), "FROM busybox\nRUN true\n", { query: { nocache: "1", ...wrong } });
    assert.match(
      (await refused({ memory: "1000" })).error?.message ?? "",
      /Minimum memory limit allowed is 6MB/,
    );
    const unread = await refused({ ulimits: "no" });
    assert.equal(unread.status, 400);
    assert.match(unread.text, /^error reading ulimit settings: /);
    assert.equal((await refused({ memory: "none", cpuquota: "0", ulimits: "[]" })).error, undefined);
  });

  test("ends with its client, and takes its container along", async () => {
    const body = await tarOf([{ name: "Dockerfile", content: "FROM busybox\nRUN echo begun; sleep 1000\n" }]);
    const sent = request({ socketPath: socket(), method: "POST", path: "/build?nocache=1" });
    sent.on("error", () => undefined);
    sent.end(body);
    await untilTrue(async () => (await ok("ps", "-q", "--filter", "label=sockerless.build")) !== "");
    sent.destroy();
    await untilTrue(async () => (await containersOfBuilds()) === "");
  });

  test("is cancelled by its build ID", async () => {
    const answer = build(socket(), "FROM busybox\nRUN sleep 1000\n", {
      query: { buildid: "mine", nocache: "1" },
    });
    await untilTrue(async () => (await ok("ps", "-q", "--filter", "label=sockerless.build")) !== "");
    assert.equal((await callApi(socket(), "POST", "/build/cancel?id=mine")).status, 200);
    assert.equal((await answer).error?.message, "build canceled");
    await untilTrue(async () => (await containersOfBuilds()) === "");
  });

  test("is cancelled with every other of its ID", async () => {
    const answers = ["1001", "1002"].map((seconds) =>
      build(socket(), `FROM busybox\nRUN sleep ${seconds}\n`, { query: { buildid: "ours", nocache: "1" } }),
    );
    const running = async () =>
      (await ok("ps", "-q", "--filter", "label=sockerless.build")).split("\n").length;
    await untilTrue(async () => (await running()) === answers.length);
    assert.equal((await callApi(socket(), "POST", "/build/cancel?id=ours")).status, 200);
    for (const answer of answers) {
      assert.equal((await answer).error?.message, "build canceled");
    }
  });

  test("is no more privileged than a container, and has the networks that it asks for", async () => {
    const status = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    const image = await built(
      socket(),
      `FROM busybox\nRUN ${status} > /status\nRUN --network=none ls /sys/class/net > /none\n`,
    );
    assert.equal(await run(image, "cat", "/status"), await run("busybox", "sh", "-c", status));
    assert.equal(await run(image, "cat", "/none"), "lo");
    const onHost = "FROM busybox\nRUN readlink /proc/self/ns/net > /namespace\n";
    const query = { networkmode: "host" };
    const id = await built(socket(), onHost, { query });
    assert.equal(await run(id, "cat", "/namespace"), await readlink("/proc/self/ns/net"));
    const { error } = await build(
      socket(),
      "# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --security=insecure true\n",
    );
    assert.match(
      error?.message ?? "",
      /security\.insecure is not allowed|--security=insecure is not implemented/,
    );
  });

  test("has host-gateway as an extra host", async () => {
    const extrahosts = "up:host-gateway";
    const image = await built(socket(), "FROM busybox\nRUN grep up /etc/hosts > /hosts\n", {
      query: { extrahosts },
    });
    const hosts = await ok("run", "--rm", "--add-host", extrahosts, "busybox", "grep", "up", "/etc/hosts");
    assert.equal(await run(image, "cat", "/hosts"), hosts);
  });

  test("keeps cache mounts from one to the next, and none of them in the image", async () => {
    const dockerfile = (n: number) =>
      `FROM busybox\nRUN --mount=type=cache,target=/kept --mount=type=tmpfs,target=/t echo ${n} >> /kept/n; touch /t/x; cp /kept/n /n\n`;
    await built(socket(), dockerfile(1));
    const image = await built(socket(), dockerfile(2));
    assert.equal(await run(image, "cat", "/n"), "1\n2");
    const listed = (await run(image, "ls", "-A", "/")).split("\n");
    const before = (await run("busybox", "ls", "-A", "/")).split("\n");
    assert.deepEqual(listed, [...before, "n"].sort());
    const anew = await built(socket(), dockerfile(3), { query: { nocache: "1" } });
    assert.equal(await run(anew, "cat", "/n"), "3");
  });

  test("gives a cache mount the owner and mode, and the first content, that it asks for", async () => {
    const dockerfile = (n: number) =>
      `FROM busybox AS seed
RUN mkdir -p /seed/in && echo seeded > /seed/in/file
FROM busybox
RUN --mount=type=cache,target=/own,uid=1000,gid=2000,mode=0750 --mount=type=cache,target=/filled,from=seed,source=/seed \\
  stat -c '%a %u:%g' /own > /out; cat /filled/in/file >> /out; echo ${n} >> /own/n; cat /own/n >> /out
`;
    await built(socket(), dockerfile(1));
    const image = await built(socket(), dockerfile(2));
    assert.equal(await run(image, "cat", "/out"), "750 1000:2000\nseeded\n1\n2");
    const { error } = await build(
      socket(),
      "FROM busybox AS seed\nFROM busybox\nRUN --mount=type=cache,target=/x,from=seed true\n",
    );
    assert.match(
      error?.message ?? "",
      /--mount=type=cache,target=\/x,from=… without a source is not implemented/,
    );
  });

  test("reads the context, other stages and images by bind mounts, which leave nothing in the image", async () => {
    const files = [
      {
        name: "tools/script",
        content: "#!/bin/sh\necho ran with $(cat /data/in) $(cat /one)\n",
        mode: 0o755,
      },
      { name: "tools/link", type: "symlink" as const, linkname: "script" },
      { name: "one", content: "file" },
    ];
    const dockerfile = `FROM busybox AS made
RUN mkdir /made && echo made > /made/in
FROM busybox
RUN --mount=type=bind,source=tools,target=/tools --mount=type=bind,from=made,source=/made,target=/data \\
  --mount=type=bind,source=one,target=/one /tools/link > /out && ! touch /tools/x && ! touch /data/x
RUN ! ls -d /tools && ! ls -d /data && ! ls -d /one
`;
    const image = await built(socket(), dockerfile, { files });
    assert.equal(await run(image, "cat", "/out"), "ran with made file");
    const again = await build(socket(), dockerfile, { files });
    assert.equal(again.id, image);
    const changed = files.map((file) => (file.name === "one" ? { ...file, content: "other" } : file));
    const other = await built(socket(), dockerfile, { files: changed });
    assert.equal(await run(other, "cat", "/out"), "ran with made other");
  });

  test("lets a step write to bind mounts that ask for it, and throws away what it wrote", async () => {
    const files = [
      { name: "in/file", content: "kept\n" },
      { name: "one", content: "one\n" },
    ];
    const dockerfile = `FROM busybox AS made
RUN mkdir /made && echo made > /made/file
FROM busybox
RUN --mount=type=bind,source=in,target=/in,rw --mount=type=bind,from=made,source=/made,target=/made,rw --mount=type=bind,source=one,target=/one,rw \\
  echo more >> /in/file && rm /made/file && mkdir /made/new && echo two >> /one && cat /in/file /one > /out && ls /made >> /out
RUN --mount=type=bind,source=in,target=/in,rw --mount=type=bind,from=made,source=/made,target=/made cat /in/file /made/file >> /out
RUN ! ls -d /in && ! ls -d /made && ! ls -d /one
COPY --from=made /made /copied
`;
    const image = await built(socket(), dockerfile, { files });
    assert.equal(
      await run(image, "cat", "/out", "/copied/file"),
      "kept\nmore\none\ntwo\nnew\nkept\nmade\nmade",
    );
  });

  test("adds files of web servers, and takes them from the cache while they are the same", async () => {
    let served = "first";
    const server = createServer((_, response) => response.end(served));
    const port = await listenHere(server);
    try {
      const dockerfile = `FROM busybox\nADD --chmod=640 --chown=1:2 http://127.0.0.1:${port}/dir/name /into/\nRUN date +%s%N > /x\n`;
      const first = await built(socket(), dockerfile);
      assert.equal(
        await run(first, "sh", "-c", "cat /into/name; stat -c ' %a %u:%g' /into/name"),
        "first 640 1:2",
      );
      assert.equal(await built(socket(), dockerfile), first);
      served = "second";
      const second = await built(socket(), dockerfile);
      assert.equal(await run(second, "cat", "/into/name"), "second");
      const wrong = `FROM busybox\nADD --checksum=sha256:${"0".repeat(64)} http://127.0.0.1:${port}/x /x\n`;
      assert.match((await build(socket(), wrong)).error?.message ?? "", /digest mismatch/);
    } finally {
      server.close();
    }
  });

  test("leaves no mount point in the image, but what was there and what lies beside it", async () => {
    const image = await built(
      socket(),
      `FROM busybox AS base
RUN mkdir -p /here/in /real && ln -s real /link
FROM base
RUN --mount=type=cache,target=/new/deep/a --mount=type=cache,target=/new/b --mount=type=tmpfs,target=/here/in \\
  --mount=type=tmpfs,target=/link/c --mount=type=cache,target=/beside/d touch /beside/file
`,
    );
    const found = await run(image, "sh", "-c", "find /new /here /real /beside 2>/dev/null | sort");
    assert.deepEqual(found.split("\n"), ["/beside", "/beside/file", "/here", "/here/in", "/real"]);
  });

  test("mounts of an image what its links mean there", async () => {
    const image = await built(
      socket(),
      `FROM busybox AS made
RUN mkdir -p /opt/app-1 && echo in one > /opt/app-1/file && ln -s /opt/app-1 /opt/app && ln -s ../../../opt/app /up
FROM busybox
RUN --mount=type=bind,from=made,source=/opt/app,target=/app --mount=type=bind,from=made,source=/up/file,target=/file \\
  cat /app/file /file > /out
`,
    );
    assert.equal(await run(image, "cat", "/out"), "in one\nin one");
  });

  test("runs on scratch what its mounts bring", async () => {
    const image = await built(
      socket(),
      `FROM busybox AS tools
FROM scratch
RUN --mount=type=bind,from=tools,source=/bin,target=/bin ["/bin/busybox", "touch", "/made"]
FROM busybox
COPY --from=1 / /copied
`,
    );
    assert.match(await run(image, "ls", "/copied"), /^made$/m);
  });

  test("copies over what is there: links, directories, the modes of what is around", async () => {
    const image = await built(
      socket(),
      `FROM busybox AS base
RUN mkdir -p /real/in && ln -s real /link && chmod 700 /real && chown 7:8 /real && echo old > /real/old && echo keep > /real/keep
FROM base
COPY old /link/
COPY old /link/in/
FROM scratch AS part
COPY --from=base /link/k* /x/
FROM base
COPY --from=1 /real /copy
COPY --link --from=part /x /linked
`,
      { files: [{ name: "old", content: "new\n" }] },
    );
    const found = await run(
      image,
      "sh",
      "-c",
      "cat /copy/old /copy/keep /copy/in/old /linked/keep; stat -c '%a %u:%g' /real; readlink /link",
    );
    assert.deepEqual(found.split("\n"), ["new", "keep", "new", "keep", "700 7:8", "real"]);
  });
});

describe("a remote context", () => {
  test("is a git repository, at a branch or a commit, or a directory in it", async () => {
    await using git = await GitServer.start();
    const first = await git.commit({
      Dockerfile: "FROM busybox\nCOPY file /\nADD file /added\n",
      "dir/other": "FROM busybox\nCOPY . /in\n",
      file: "first\n",
    });
    const buildOf = (remote: string, query: Readonly<Record<string, string>> = {}) =>
      build(socket(), "ignored", { query: { remote, ...query } });
    const main = await buildOf(git.url, { t: "remote:1" });
    assert.equal(main.error, undefined);
    assert.match(main.text, /^Step 1\/3 : FROM busybox\nStep 2\/3 : COPY file \/\n/);
    assert.equal(await run("remote:1", "cat", "/file", "/added"), "first\nfirst");
    await git.commit({ file: "second\n" });
    assert.equal(await run((await buildOf(git.url)).id ?? "", "cat", "/file"), "second");
    assert.equal((await buildOf(`${git.url}#${first}`)).id, main.id);
    const inside = await buildOf(`${git.url}#main:dir`, { dockerfile: "other" });
    assert.equal(await run(inside.id ?? "", "ls", "-A", "/in"), "other");
    const wrong = await buildOf(`${git.url}#no-branch`);
    assert.deepEqual(
      [wrong.status, /repository does not contain ref no-branch/.test(wrong.text)],
      [500, true],
    );
    await untilTrue(async () => (await leftOfContexts()).length === 0);
  });

  test("is an archive of a web server, or a Dockerfile alone", async () => {
    const archive = gzipSync(
      await tarOf([
        { name: "Dockerfile", content: "FROM busybox\nCOPY file /\n" },
        { name: "file", content: "packed" },
      ]),
    );
    const server = createServer((request, response) => {
      const found = { "/context.tgz": archive, "/any": "FROM busybox\nRUN echo alone > /file\n" }[
        request.url ?? ""
      ];
      response.writeHead(found === undefined ? 404 : 200).end(found);
    });
    const port = await listenHere(server);
    try {
      const buildOf = (remote: string) => build(socket(), "ignored", { query: { remote } });
      for (const [path, content] of [
        ["context.tgz", "packed"],
        ["any", "alone"],
      ]) {
        const { id, text } = await buildOf(`http://127.0.0.1:${port}/${path}`);
        assert.ok(id !== undefined, text);
        assert.equal(await run(id, "cat", "/file"), content);
      }
      assert.match((await buildOf(`http://127.0.0.1:${port}/no`)).text, /404 Not Found/);
      assert.match((await buildOf("http://169.254.169.254/x")).text, /address of a metadata service/);
      const unknown = await buildOf("ftp://127.0.0.1/x");
      assert.deepEqual(
        [unknown.status, unknown.text],
        [400, "remoteURL (ftp://127.0.0.1/x) could not be recognized as URL"],
      );
      await untilTrue(async () => (await leftOfContexts()).length === 0);
    } finally {
      server.close();
    }
  });
});

describe("an archive that is added", () => {
  test("goes through links, and leaves the modes of directories that it does not have", async () => {
    const content = await tarOf([
      { name: "link/new", content: "new\n" },
      { name: "real/old", content: "other\n" },
      { name: "away", content: "file\n" },
      { name: "fresh/deep/x", content: "x\n" },
    ]);
    const image = await built(
      socket(),
      `FROM busybox
RUN mkdir -p /to/real /to/away/in && ln -s real /to/link && chmod 750 /to/real && chown 7:8 /to/real && echo old > /to/real/old && echo kept > /to/real/kept
ADD a.tgz /to
`,
      { files: [{ name: "a.tgz", content: gzipSync(content) }] },
    );
    const found = await run(
      image,
      "sh",
      "-c",
      "cd /to; cat real/new real/old real/kept away fresh/deep/x; stat -c '%a %u:%g' real; readlink link",
    );
    assert.deepEqual(found.split("\n"), ["new", "other", "kept", "file", "x", "750 7:8", "real"]);
  });
});

describe("a session", () => {
  test("without an upgrade that it knows is refused", async () => {
    for (const [headers, message] of [
      [{}, "no upgrade proto in request"],
      [{ Connection: "Upgrade", Upgrade: "foo" }, "protocol foo not supported"],
    ] as const) {
      const { status, json } = await callApi(socket(), "POST", "/session", { headers });
      assert.deepEqual([status, json()], [400, { message }]);
    }
  });
});

describe("what belongs to builds", () => {
  test("is hidden from listings and spared by prunes, and stays as the cache", async () => {
    const before = await ok("images", "--all", "--quiet");
    const dockerfile = "FROM busybox\nRUN echo hidden > /x\n";
    const id = await built(socket(), dockerfile);
    const listed = (await ok("images", "--all", "--quiet", "--no-trunc")).split("\n");
    assert.equal(listed.length, before.split("\n").length + 1);
    assert.ok(listed.includes(id));
    const images = await callApi(socket(), "GET", "/images/json?all=1");
    const { Images: counted } = (await callApi(socket(), "GET", "/info")).json() as { Images: number };
    assert.equal(counted, (images.json() as unknown[]).length);
    await ok("rmi", id);
    await ok("image", "prune", "--force", "--all", "--filter", "label=sockerless.build");
    assert.match((await build(socket(), dockerfile)).text, / ---> Using cache\n/);
  });

  test("counts as build cache, survives a restart, and is pruned", async () => {
    const dockerfile = "FROM busybox\nRUN date +%s%N > /x\n";
    const id = await built(socket(), dockerfile);
    await daemon.shutDown();
    await daemon.launch();
    const usage = await callApi(socket(), "GET", "/v1.48/system/df?type=build-cache");
    const { BuildCache: cache } = usage.json() as { BuildCache: { Description: string; Type: string }[] };
    assert.ok(cache.some(({ Description, Type }) => Description.includes("RUN date") && Type === "regular"));
    assert.equal(await built(socket(), dockerfile), id);
    await ok("builder", "prune", "--force", "--all");
    assert.notEqual(await built(socket(), dockerfile), id);
  });
});

describe("the build cache", () => {
  test("is kept within its size, after builds", inSoak, async () => {
    const resources = new AsyncDisposableStack();
    try {
      const small = await startDaemon(resources, { args: ["--builder-cache-size", "1MiB"] });
      await small.ok("load", "--input", await busyboxArchiveFile());
      await built(small.socket, "FROM busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=2\n");
      await untilTrue(async () => {
        const usage = await callApi(small.socket, "GET", "/v1.48/system/df?type=build-cache");
        const { BuildCache: cache } = usage.json() as { BuildCache: { Size: number }[] | null };
        return (cache ?? []).reduce((sum, { Size }) => sum + Size, 0) <= 2 ** 20;
      });
    } finally {
      await resources.disposeAsync();
    }
  });
});

describe("docker builder prune", () => {
  test("takes the age of what goes in each of Docker's forms", async () => {
    await built(socket(), "FROM busybox\nRUN date +%s%N > /x\n");
    const prunedBy = async (until: string) => {
      const filters = JSON.stringify({ until: { [until]: true } });
      const answer = await callApi(
        socket(),
        "POST",
        `/build/prune?all=1&filters=${encodeURIComponent(filters)}`,
      );
      assert.equal(answer.status, 200, answer.text);
      return (answer.json() as { CachesDeleted: string[] | null }).CachesDeleted?.length ?? 0;
    };
    for (const until of ["24h", "1h30m", "1700000000", "1700000000.5", "2024-01-02", "2024-01-02T15:04"]) {
      assert.equal(await prunedBy(until), 0, until);
    }
    assert.equal(await prunedBy("2024-01-02T15:04:05+02:00"), 0);
    assert.ok((await prunedBy("2199-01-02T15:04:05")) > 0);
  });
});

describe("a supervisor that was killed", () => {
  test("takes its builder along, and the next one's builder has the same cache", async () => {
    const dockerfile = "FROM busybox\nRUN date +%s%N > /x\n";
    const id = await built(socket(), dockerfile);
    const builder = await processOf(daemon, "builder");
    process.kill(daemon.pid, "SIGKILL");
    await untilTrue(() => !isAlive(builder));
    await daemon.launch();
    assert.equal(await built(socket(), dockerfile), id);
  });

  test("leaves a builder that still ends, which the next one waits for", inSoak, async () => {
    const answer = build(socket(), "FROM busybox\nRUN sleep 1000\n", { query: { nocache: "1" } }).catch(
      () => undefined,
    );
    await untilTrue(async () => (await ok("ps", "-q", "--filter", "label=sockerless.build")) !== "");
    const builder = await processOf(daemon, "builder");
    // It cannot end before the next one is started.
    process.kill(builder, "SIGSTOP");
    process.kill(daemon.pid, "SIGKILL");
    await answer;
    await daemon.launch();
    const next = built(socket(), "FROM busybox\nRUN true\n");
    await processOf(daemon, "builder", builder);
    process.kill(builder, "SIGCONT");
    await next;
    assert.equal(await containersOfBuilds(), "");
  });
});

describe("a builder that was killed", () => {
  test("is started again, and takes away the containers that it left", async () => {
    const answer = build(socket(), "FROM busybox\nRUN sleep 1000\n", { query: { nocache: "1" } }).catch(
      () => undefined,
    );
    await untilTrue(async () => (await ok("ps", "-q", "--filter", "label=sockerless.build")) !== "");
    process.kill(await processOf(daemon, "builder"), "SIGKILL");
    await answer;
    await untilTrue(async () => (await containersOfBuilds()) === "");
  });

  test("with all else is started by the next start, and takes away the containers that it left", async () => {
    const answer = build(socket(), "FROM busybox\nRUN sleep 1000\n", { query: { nocache: "1" } }).catch(
      () => undefined,
    );
    await untilTrue(async () => (await ok("ps", "-q", "--filter", "label=sockerless.build")) !== "");
    const builder = await processOf(daemon, "builder");
    for (const pid of [daemon.pid, builder]) {
      process.kill(pid, "SIGKILL");
    }
    await answer;
    await untilTrue(() => !isAlive(builder));
    await daemon.launch();
    await untilTrue(async () => (await containersOfBuilds()) === "");
  });
});

describe("the builder", () => {
  test("answers on a socket that is its user's alone, and takes its steps along when it is told to end", async () => {
    await built(socket(), "FROM busybox\nRUN true\n");
    const { mode } = await stat(join(daemon.runDir, "builder.sock"));
    assert.equal(mode & 0o777, 0o600);
    const answer = build(socket(), "FROM busybox\nRUN sleep 1000\n", { query: { nocache: "1" } }).catch(
      () => undefined,
    );
    await untilTrue(async () => (await ok("ps", "-q", "--filter", "label=sockerless.build")) !== "");
    process.kill(await processOf(daemon, "builder"), "SIGTERM");
    await answer;
    await untilTrue(async () => (await containersOfBuilds()) === "");
  });
});

describe("a hostile context", () => {
  test("neither leaves its directory nor makes devices", async () => {
    const outside = scratchDirectory();
    await writeFile(join(outside, "secret"), "secret");
    const through = await build(socket(), "FROM busybox\nCOPY out/secret /x\n", {
      files: [{ name: "out", type: "symlink", linkname: outside }],
    });
    assert.match(through.error?.message ?? "", /not found/);
    for (const files of [
      [{ name: "../up", content: "x" }],
      [
        { name: "out", type: "symlink" as const, linkname: outside },
        { name: "out/planted", content: "x" },
      ],
      [{ name: "device", type: "character-device" as const, devmajor: 1, devminor: 3 }],
      [{ name: "hard", type: "link" as const, linkname: `../../../../..${outside}/secret` }],
    ]) {
      const { status, text } = await build(socket(), "FROM busybox\n", { files });
      assert.equal(status, 400, text);
    }
  });

  test("that grows beyond its limit when it is unpacked is refused, and nothing of it stays", async () => {
    const resources = new AsyncDisposableStack();
    try {
      const small = await startDaemon(resources, { args: ["--builder-context-size", "1MiB"] });
      const whole = await tarOf([
        { name: "Dockerfile", content: "FROM scratch\n" },
        { name: "zeros", content: Buffer.alloc(2 ** 21) },
      ]);
      const body = gzipSync(whole);
      assert.ok(body.length < 10_000);
      const { status, json } = await callApi(small.socket, "POST", "/build", { body });
      assert.equal(status, 400);
      assert.match(
        (json() as { message: string }).message,
        /the build context is larger than 1048576 bytes, the limit of builder\.context_size/,
      );
      assert.deepEqual(await readdir(join(small.stateDir, "builder/scratch")), []);
      const archive = gzipSync(await tarOf([{ name: "zeros", content: Buffer.alloc(2 ** 21) }]));
      const added = await build(small.socket, "FROM scratch\nADD a.tgz /\n", {
        files: [{ name: "a.tgz", content: archive }],
      });
      assert.match(
        added.error?.message ?? "",
        /the archive a\.tgz, unpacked, is larger than 1048576 bytes, the limit of builder\.context_size/,
      );
      await untilTrue(async () => (await readdir(join(small.stateDir, "builder/scratch"))).length === 0);
    } finally {
      await resources.disposeAsync();
    }
  });

  test("that is cut is refused", async () => {
    const whole = await tarOf([
      { name: "Dockerfile", content: "FROM busybox\n" },
      { name: "x", content: "y".repeat(9000) },
    ]);
    const { status, json } = await callApi(socket(), "POST", "/build", { body: whole.subarray(0, 3000) });
    assert.equal(status, 400);
    assert.match((json() as { message: string }).message, /unexpected EOF/);
  });
});

describe("a base image that its registry has anew", () => {
  test("is pulled again where the build asks for it", async () => {
    await using registry = await TestRegistry.start();
    const pushed = async (which: string) => {
      await registry.push("moving", "1", await busyboxImage({ Env: [`WHICH=${which}`] }));
    };
    const base = async (query: Readonly<Record<string, string>>) => {
      const image = await built(socket(), `FROM ${registry.host}/moving:1\nLABEL moving=1\n`, { query });
      return await ok("image", "inspect", "--format", "{{json .Config.Env}}", image);
    };
    await pushed("first");
    assert.match(await base({}), /WHICH=first/);
    await pushed("second");
    assert.match(await base({}), /WHICH=first/);
    assert.match(await base({ pull: "1" }), /WHICH=second/);
  });
});

describe("a base image of a registry that asks for credentials", () => {
  const registry = duringTests(() => TestRegistry.start({ credentials: true }));
  before(async () => {
    await registry.push("private/base", "1", await busyboxImage());
  });

  test("is pulled with those of the build, which are kept nowhere", async () => {
    const dockerfile = `FROM ${registry.host}/private/base:1\nRUN true\n`;
    assert.match(
      (await build(socket(), dockerfile)).error?.message ?? "",
      /no basic auth credentials|unauthorized/,
    );
    const { username, password } = registryUser;
    const config = Buffer.from(JSON.stringify({ [registry.host]: { username, password } })).toString(
      "base64url",
    );
    await built(socket(), dockerfile, { headers: { "X-Registry-Config": config } });
    assert.deepEqual(await filesWithCredentials(join(daemon.stateDir, "builder")), []);
  });
});
