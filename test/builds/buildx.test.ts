/** `docker buildx` with its docker driver: BuildKit's control API and sessions, hijacked from the Docker API. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";

import { compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs, runCommand } from "../support/command.ts";
import { callApi } from "../support/call-api.ts";
import { commitDate, GitServer } from "../support/git-server.ts";
import { buildProgram } from "../support/programs.ts";
import { filesWithCredentials, registryUser, TestRegistry } from "../support/registry.ts";
import { inSoak } from "../support/soak.ts";
import { makeSshKey } from "../support/ssh-key.ts";
import { entriesOf, tarOf } from "../support/tar.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();
const directory = scratchDirectory();
let missing: string | undefined;

/** A test that needs buildx. */
function ofBuildx(work: () => Promise<void>): (t: TestContext) => Promise<void> {
  return async (t) => {
    if (missing === undefined) {
      await work();
    } else {
      t.skip(missing);
    }
  };
}

/** Writes a context and answers its directory. */
const context = (name: string, files: Readonly<Record<string, string>>) =>
  writeFiles(join(directory, name), files);

/** Runs a build, whose progress is on standard error. */
const buildx = (...args: string[]) => daemon.docker("buildx", "build", "--progress", "plain", ...args);

/** Files of the daemon that have a secret, one a line. */
async function filesWith(secret: string): Promise<string> {
  const { stateDir, runDir } = daemon;
  // It answers 2 where a file goes while it looks.
  const found = await until(async () => {
    const looked = await runCommand("grep", ["-rlaF", "--devices=skip", secret, stateDir, runDir]);
    return looked.code === 2 && looked.text === "" ? undefined : looked;
  });
  return found.text;
}

async function assertKeptNowhere(secret: string): Promise<void> {
  assert.equal(await filesWith(secret), "");
  assert.ok(!daemon.output.includes(secret));
}

describe("docker buildx build", () => {
  before(
    async () => {
      const found = await findPlugin("buildx");
      if ("missing" in found) {
        missing = found.missing;
        return;
      }
      await installPlugin(daemon, found.path);
    },
    { timeout: pluginLimitMs },
  );
  test(
    "has files of names that are no UTF-8 and named pipes, and steps with BuildKit's host name",
    ofBuildx(async () => {
      const files = await context("bytes", {
        Dockerfile: `FROM busybox AS one
ADD packed.tar /packed/
COPY . /context
COPY . /context/
RUN mkdir /mine && touch "$(printf '/mine/\\351')"
FROM busybox
COPY --from=one /packed /packed
COPY --from=one /context /mine /all/
RUN hostname > /name; env | grep -c HOSTNAME >> /name; test -p /packed/pipe && printf '%s\\n' /all/* | od -An -c > /listed
`,
      });
      await writeFile(join(files, "packed.tar"), await tarOf([{ name: "pipe", type: "fifo" }]));
      await writeFile(Buffer.concat([Buffer.from(`${files}/caf`), Buffer.from([0xe9])]), "");
      const built = await buildx("--tag", "bytes:1", files);
      assert.equal(built.code, 0, built.errorText);
      const [hostname, variables, ...listed] = (
        await ok("run", "--rm", "bytes:1", "cat", "/name", "/listed")
      ).split("\n");
      assert.deepEqual([hostname, variables], ["buildkitsandbox", "0"]);
      const names = listed.join("").replaceAll(/\s+/g, "");
      assert.match(names, /\/all\/caf351\\n/);
      assert.match(names, /\/all\/351\\n/);
    }),
  );

  test(
    "makes a step's layer the same again, though it tells its host name and variables",
    ofBuildx(async () => {
      const files = await context("again", {
        Dockerfile: `FROM busybox
RUN mkdir /made && hostname > /made/name && cat /etc/hostname > /made/file && env | sort > /made/env && touch -d @0 /made/* /made
`,
      });
      const layersOf = async (tag: string): Promise<string> => {
        const built = await buildx("--no-cache", "--tag", tag, files);
        assert.equal(built.code, 0, built.errorText);
        return await ok("image", "inspect", "--format", "{{.RootFS.Layers}}", tag);
      };
      assert.equal(await layersOf("again:1"), await layersOf("again:2"));
    }),
  );

  test(
    "builds stages of the client's files, and takes them from the cache again",
    ofBuildx(async () => {
      const files = await context("stages", {
        Dockerfile: `# syntax=docker/dockerfile:1
FROM busybox AS one
RUN echo one > /one
FROM busybox AS two
RUN <<END
echo two > /two
END
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
COPY . /context
RUN cat /one /two > /both
`,
        kept: "kept",
        left: "left",
        ".dockerignore": "left\n",
      });
      const metadata = join(directory, "metadata.json");
      const idFile = join(directory, "id");
      const first = await buildx(
        ...["--tag", "stages:1", "--metadata-file", metadata, "--iidfile", idFile, files],
      );
      assert.equal(first.code, 0, first.errorText);
      assert.equal(
        await ok("run", "--rm", "stages:1", "sh", "-c", "cat /both; ls -A /context"),
        "one\ntwo\n.dockerignore\nDockerfile\nkept",
      );
      const told = JSON.parse(await readFile(metadata, "utf8")) as Record<string, unknown>;
      const id = await ok("inspect", "--format", "{{.Id}}", "stages:1");
      assert.equal(told["containerimage.digest"], id);
      assert.equal(await readFile(idFile, "utf8"), id);
      await writeFile(join(files, "left"), "changed, but ignored");
      const second = await buildx("--tag", "stages:2", files);
      assert.match(second.errorText, /#(\d+) \[\S+ 5\/5\] RUN cat \/one \/two > \/both\n#\1 CACHED\n/);
      assert.equal(await ok("inspect", "--format", "{{.Id}}", "stages:2"), id);
      await writeFile(join(files, "kept"), "changed");
      const third = await buildx(files);
      assert.doesNotMatch(third.errorText, /#(\d+) \[\S+ 4\/5\] COPY \. \/context\n#\1 CACHED\n/);
    }),
  );

  test(
    "tells the line, the command and the last output of a step that fails",
    ofBuildx(async () => {
      const files = await context("failing", { Dockerfile: "FROM busybox\nRUN echo last words; exit 7\n" });
      const { code, errorText } = await buildx(files);
      assert.equal(code, 1);
      assert.match(
        errorText,
        /Dockerfile:2\n-+\n {3}1 \| {5}FROM busybox\n {3}2 \| >>> RUN echo last words; exit 7\n/,
      );
      assert.match(errorText, / > \[2\/2\] RUN echo last words; exit 7:\n\d+\.\d+ last words\n/);
      assert.match(
        errorText,
        /"\/bin\/sh -c echo last words; exit 7" did not complete successfully: exit code: 7/,
      );
      assert.equal(await ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build"), "");
    }),
  );

  test(
    "takes a Dockerfile from standard input",
    ofBuildx(async () => {
      const input = "FROM busybox\nRUN echo input > /made\n";
      const args = ["buildx", "build", "--progress", "plain", "--tag", "input", "-"];
      const made = await daemon.dockerWith({ input }, ...args);
      assert.equal(made.code, 0, made.errorText);
      assert.equal(await ok("run", "--rm", "input", "cat", "/made"), "input");
    }),
  );

  test(
    "shows a step its secrets in memory, and keeps them nowhere",
    ofBuildx(async () => {
      const secret = `secret-${randomUUID()}`;
      const files = await context("secret", {
        Dockerfile: `FROM busybox
RUN --mount=type=secret,id=token,uid=5,gid=6,mode=0440 --mount=type=secret,id=none \\
  stat -c '%a %u:%g' /run/secrets/token > /out && sha256sum < /run/secrets/token >> /out && \\
  grep ' /run/secrets/token ' /proc/self/mountinfo > /mounts; \\
  ! echo written > /run/secrets/token && test ! -e /run/secrets/none
RUN test ! -e /run/secrets
`,
      });
      const file = join(directory, "token");
      await writeFile(file, secret);
      const answer = await buildx("--secret", `id=token,src=${file}`, "--tag", "secret:1", files);
      assert.equal(answer.code, 0, answer.errorText);
      const digest = createHash("sha256").update(secret).digest("hex");
      assert.equal(await ok("run", "--rm", "secret:1", "cat", "/out"), `440 5:6\n${digest}  -`);
      assert.match(await ok("run", "--rm", "secret:1", "cat", "/mounts"), /tmpfs/);
      await assertKeptNowhere(secret);
    }),
  );

  test(
    "gives a step its secrets as variables, which are kept nowhere",
    ofBuildx(async () => {
      const secret = `secret-${randomUUID()}`;
      const files = await context("secret-env", {
        Dockerfile: `FROM busybox
ENV TOKEN=of-the-image
RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=token,env=SAME --mount=type=secret,id=none,env=NONE \\
  until test -e /tmp/go; do sleep 0.1; done; printf %s "$TOKEN" | sha256sum > /out && test -z "$NONE" && env | grep -c TOKEN= >> /out
RUN echo $TOKEN >> /out
`,
      });
      const file = join(directory, "token-env");
      await writeFile(file, secret);
      const building = buildx("--secret", `id=token,src=${file}`, "--tag", "secret:2", files);
      const step = await until(
        async () => (await ok("ps", "--quiet", "--filter", "label=sockerless.build")) || undefined,
      );
      const kept = (await filesWith(secret)).split("\n");
      const { text: kinds } = await runCommand("stat", ["--file-system", "--format", "%T", ...kept]);
      assert.deepEqual([...new Set(kinds.split("\n"))], ["tmpfs"]);
      const ofExecs = await ok("exec", step, "env");
      assert.match(ofExecs, /^TOKEN=of-the-image$/m);
      assert.doesNotMatch(ofExecs, /^SAME=/m);
      await ok("exec", "--detach", step, "touch", "/tmp/go");
      const answer = await building;
      assert.equal(answer.code, 0, answer.errorText);
      const digest = createHash("sha256").update(secret).digest("hex");
      assert.equal(await ok("run", "--rm", "secret:2", "cat", "/out"), `${digest}  -\n1\nof-the-image`);
      await assertKeptNowhere(secret);
      const required = await context("secret-required", {
        Dockerfile: "FROM busybox\nRUN --mount=type=secret,id=token,env=TOKEN,required true\n",
      });
      const refused = await buildx(required);
      assert.equal(refused.code, 1);
      assert.match(refused.errorText, /secret token: not found/);
    }),
  );

  test(
    "forwards its client's SSH agent to a step, and to no other",
    ofBuildx(async () => {
      const { pem, blob } = makeSshKey();
      const key = join(directory, "key");
      await writeFile(key, pem, { mode: 0o600 });
      const files = await context("ssh", {
        Dockerfile: `FROM busybox
COPY --chmod=755 sshkeys /bin/
RUN --mount=type=ssh --mount=type=ssh,id=none,target=/none sshkeys > /out && sshkeys >> /out && stat -c '%a %u' $SSH_AUTH_SOCK >> /out && test ! -e /none
USER 1000
RUN --mount=type=ssh,uid=1000,mode=0700,target=/own/sock SSH_AUTH_SOCK=/own/sock sshkeys > /tmp/out; stat -c '%a %u' /own/sock >> /tmp/out
RUN test ! -e /run/buildkit -a ! -e /own -a -z "$SSH_AUTH_SOCK"
`,
      });
      await copyFile(await buildProgram("sshkeys"), join(files, "sshkeys"));
      const answer = await buildx("--ssh", `default=${key}`, "--tag", "ssh:1", files);
      assert.equal(answer.code, 0, answer.errorText);
      const found = await ok("run", "--rm", "ssh:1", "cat", "/out", "/tmp/out");
      assert.deepEqual(found.split("\n"), [blob, blob, "600 0", blob, "700 1000"]);
      const required = await context("ssh-required", {
        Dockerfile: "FROM busybox\nRUN --mount=type=ssh,id=other,required true\n",
      });
      for (const options of [[], ["--ssh", `default=${key}`]]) {
        const refused = await buildx(...options, required);
        assert.equal(refused.code, 1);
        assert.match(refused.errorText, /no SSH key "other" forwarded|unset ssh forward key other/);
      }
      await untilTrue(async () =>
        (await readdir(join(daemon.stateDir, "builder/scratch"))).every((name) => !name.startsWith("ssh-")),
      );
    }),
  );

  test(
    "refuses a step more secrets than there is memory for, and says so",
    ofBuildx(async () => {
      // The client takes files of up to 500 KB.
      const ids = Array.from({ length: 33 }, (_, n) => `s${n}`);
      const file = join(directory, "large");
      await writeFile(file, Buffer.alloc(500 * 1024));
      const mounts = ids.map((id) => `--mount=type=secret,id=${id}`).join(" ");
      const files = await context("secrets", { Dockerfile: `FROM busybox\nRUN ${mounts} true\n` });
      const answer = await buildx(...ids.flatMap((id) => ["--secret", `id=${id},src=${file}`]), files);
      assert.notEqual(answer.code, 0);
      assert.match(answer.errorText, /the secrets of a start take 17 MiB of memory: at most 16 MiB are kept/);
    }),
  );

  test(
    "hands its result out as files, a tar, or an image's archive",
    ofBuildx(async () => {
      const files = await context("outputs", { Dockerfile: "FROM scratch\nCOPY a /d/a\n", a: "content" });
      const local = join(directory, "local");
      assert.equal((await buildx("--output", local, files)).code, 0);
      assert.equal(await readFile(join(local, "d/a"), "utf8"), "content");
      for (const [type, wanted] of [
        ["tar", "d/a"],
        ["docker", "manifest.json"],
        ["oci", "index.json"],
      ] as const) {
        const file = join(directory, `${type}.tar`);
        const { code, errorText } = await buildx("--output", `type=${type},dest=${file}`, files);
        assert.equal(code, 0, errorText);
        assert.ok(
          (await entriesOf(await readFile(file))).some(({ name }) => name === wanted),
          type,
        );
      }
      assert.equal(await ok("images", "--quiet", "--filter", "reference=outputs"), "");
      const unnamed = await ok("build", "--quiet", files);
      await ok("build", "--output", `type=docker,dest=${join(directory, "again.tar")}`, files);
      assert.equal(await ok("inspect", "--format", "{{.Id}}", unnamed), unnamed);
    }),
  );

  test(
    "pushes what it built with the credentials of its client, which are kept nowhere",
    ofBuildx(async () => {
      await using registry = await TestRegistry.start({ credentials: true });
      const files = await context("pushed", { Dockerfile: "FROM busybox\nRUN echo pushed > /x\n" });
      const name = `${registry.host}/pushed:1`;
      assert.notEqual((await buildx("--push", "--tag", name, files)).code, 0);
      const { username, password } = registryUser;
      await ok("login", "--username", username, "--password", password, registry.host);
      const pushed = await buildx("--push", "--tag", name, files);
      assert.equal(pushed.code, 0, pushed.errorText);
      await ok("rmi", name);
      assert.equal(await ok("run", "--quiet", "--rm", name, "cat", "/x"), "pushed");
      assert.deepEqual(await filesWithCredentials(join(daemon.stateDir, "builder")), []);
    }),
  );

  test(
    "pushes an image of several platforms, which it does not keep",
    ofBuildx(async () => {
      await using registry = await TestRegistry.start();
      const files = await context("platforms", { Dockerfile: "FROM scratch\nCOPY a /\n", a: "a" });
      const name = `${registry.host}/platforms:1`;
      const platforms = ["--platform", "linux/amd64,linux/arm64", "--provenance=false", "--tag", name];
      const kept = await buildx(...platforms, files);
      assert.match(kept.errorText, /an image of several platforms is kept by no backend: --push it/);
      const metadata = join(directory, "platforms.json");
      const pushed = await buildx(...platforms, "--push", "--metadata-file", metadata, files);
      assert.equal(pushed.code, 0, pushed.errorText);
      const answer = await fetch(`http://${registry.host}/v2/platforms/manifests/1`, {
        headers: { Accept: "application/vnd.oci.image.index.v1+json" },
      });
      const told = JSON.parse(await readFile(metadata, "utf8")) as Record<string, unknown>;
      assert.equal(answer.headers.get("docker-content-digest"), told["containerimage.digest"]);
      const { manifests } = (await answer.json()) as {
        readonly manifests: { platform: { architecture: string } }[];
      };
      assert.deepEqual(
        manifests.map(({ platform }) => platform.architecture),
        ["amd64", "arm64"],
      );
    }),
  );

  test(
    "bakes targets of a file",
    ofBuildx(async () => {
      const files = await context("bake", {
        Dockerfile: "FROM busybox AS one\nRUN echo one > /x\nFROM busybox AS two\nRUN echo two > /x\n",
        "docker-bake.json": JSON.stringify({
          group: { default: { targets: ["one", "two"] } },
          target: Object.fromEntries(
            ["one", "two"].map((name) => [
              name,
              { target: name, tags: [`baked:${name}`], output: ["type=docker"] },
            ]),
          ),
        }),
      });
      const env = daemon.clientEnv;
      const baked = await runCommand("docker", ["buildx", "bake", "--progress", "plain"], {
        env,
        cwd: files,
      });
      assert.equal(baked.code, 0, baked.errorText);
      assert.equal(await ok("run", "--rm", "baked:one", "cat", "/x"), "one");
      assert.equal(await ok("run", "--rm", "baked:two", "cat", "/x"), "two");
    }),
  );

  test(
    "takes archives, directories by name, hosts and triggers as BuildKit does",
    ofBuildx(async () => {
      const archive = gzipSync(await tarOf([{ name: "packed", content: "packed" }]));
      const files = await context("wide", {
        Dockerfile: `# syntax=docker/dockerfile:1-labs
FROM busybox AS base
ONBUILD RUN echo triggered > /triggered
FROM base
ADD a.tgz /unpacked/
COPY --exclude=*.tgz . /context
COPY --from=other /o /o
RUN grep -q '1.2.3.4.*far' /etc/hosts && grep up /etc/hosts > /hosts && cat /unpacked/packed /o /triggered > /all && ls /context >> /all
`,
        "other/o": "other\n",
      });
      await writeFile(join(files, "a.tgz"), archive);
      const other = ["--build-context", `other=${join(files, "other")}`];
      const gateway = ["--add-host", "up:host-gateway"];
      const hosts = ["--add-host", "far:1.2.3.4", ...gateway];
      const { code, errorText } = await buildx(...hosts, ...other, "--tag", "wide:1", files);
      assert.equal(code, 0, errorText);
      assert.equal(
        await ok("run", "--rm", "wide:1", "cat", "/all"),
        "packedother\ntriggered\nDockerfile\nother",
      );
      assert.equal(
        await ok("run", "--rm", "wide:1", "cat", "/hosts"),
        await ok("run", "--rm", ...gateway, "busybox", "grep", "up", "/etc/hosts"),
      );
    }),
  );

  test(
    "begins stages with a directory that is named a context",
    inSoak,
    ofBuildx(async () => {
      const files = await context("base", {
        Dockerfile: `FROM named AS run
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox cat /o > /ran"]
FROM named AS copied
COPY Dockerfile /added
FROM named AS linked
COPY --link Dockerfile /added
FROM busybox AS seen
COPY --from=run /ran /ran
COPY --from=copied / /copied
COPY --from=linked / /linked
RUN cat /ran /copied/o /linked/o > /out && cmp /copied/added /linked/added
`,
        "named/o": "in it\n",
      });
      await mkdir(join(files, "named/bin"));
      await copyFile("/bin/busybox", join(files, "named/bin/busybox"));
      const args = ["--build-context", `named=${join(files, "named")}`];
      const seen = await buildx(...args, "--tag", "base:seen", files);
      assert.equal(seen.code, 0, seen.errorText);
      assert.equal(await ok("run", "--rm", "base:seen", "cat", "/out"), "in it\n".repeat(3).trim());
      const nothingElse = await context("base-alone", { Dockerfile: "FROM named\n" });
      for (const output of [
        ["--tag", "base:alone"],
        ["--output", `type=oci,dest=${join(files, "alone.tar")}`],
      ]) {
        const alone = await buildx(...args, ...output, nothingElse);
        assert.equal(alone.code, 0, alone.errorText);
      }
      assert.equal(await ok("run", "--rm", "base:alone", "/bin/busybox", "cat", "/o"), "in it");
    }),
  );

  test(
    "builds of git repositories: as its context, as a named one, and by ADD",
    inSoak,
    ofBuildx(async () => {
      await using git = await GitServer.start();
      await git.commit({
        Dockerfile: `FROM busybox
COPY . /context
COPY --from=named sub/file /named
ADD ${git.url}#main:sub /added
ADD --keep-git-dir=true ${git.url}#main /kept
RUN --mount=type=bind,target=/bound,rw cat /bound/sub/file > /out && cat /context/sub/file /named /added/file >> /out && ls -A /context /kept >> /out
`,
        "sub/file": "in git\n",
      });
      const answer = await buildx("--build-context", `named=${git.url}`, "--tag", "git:1", git.url);
      assert.equal(answer.code, 0, answer.errorText);
      const all = "in git\n".repeat(4);
      assert.equal(
        await ok("run", "--rm", "git:1", "cat", "/out"),
        `${all}/context:\nDockerfile\nsub\n\n/kept:\n.git\nDockerfile\nsub`,
      );
      const again = await buildx("--build-context", `named=${git.url}`, "--tag", "git:2", git.url);
      assert.match(again.errorText, /#(\d+) \[\S+ 6\/6\] RUN .*\n#\1 CACHED\n/);
      const dated = await buildx(
        ...["--build-context", `named=${git.url}`, "--build-arg", "SOURCE_DATE_EPOCH=context"],
        ...["--tag", "git:dated", git.url],
      );
      assert.equal(dated.code, 0, dated.errorText);
      const created = await ok("image", "inspect", "--format", "{{.Created}}", "git:dated");
      assert.equal(Date.parse(created), Date.parse(commitDate));
      const refused = await buildx("http://169.254.169.254/context.git");
      assert.match(refused.errorText, /the address of a metadata service/);
    }),
  );

  test(
    "builds of web servers' files and of archives on standard input",
    inSoak,
    ofBuildx(async () => {
      const archive = await tarOf([
        { name: "Dockerfile", content: "FROM busybox\nCOPY file sub /\nRUN ls /given /file > /seen\n" },
        { name: "file", content: "packed" },
        { name: "sub/given", content: "below" },
      ]);
      const dockerfile = "FROM busybox\nCOPY --from=named context /named\nRUN echo alone > /file\n";
      const files: Readonly<Record<string, Buffer | string>> = {
        "/context.tar.gz": gzipSync(archive),
        "/Dockerfile": dockerfile,
        "/named": "as it is",
      };
      const server = createServer(({ url = "" }, response) =>
        response.writeHead(files[url] === undefined ? 404 : 200).end(files[url]),
      ).listen(0, "127.0.0.1");
      await using stack = new AsyncDisposableStack();
      stack.defer(() => void server.close());
      await once(server, "listening");
      const web = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const seen = async (image: string, ...paths: string[]) =>
        await ok("run", "--rm", image, "cat", ...paths);

      const packed = await buildx("--tag", "web:1", `${web}/context.tar.gz`);
      assert.equal(packed.code, 0, packed.errorText);
      assert.equal(await seen("web:1", "/file", "/given", "/seen"), "packedbelow/file\n/given");
      const cached = await buildx(`${web}/context.tar.gz`);
      assert.match(cached.errorText, /#(\d+) \[3\/3\] RUN .*\n#\1 CACHED\n/);

      const named = ["--build-context", `named=${web}/named`];
      const alone = await buildx(...named, "--tag", "web:2", `${web}/Dockerfile`);
      assert.equal(alone.code, 0, alone.errorText);
      assert.equal(await seen("web:2", "/named", "/file"), "as it isalone");

      for (const input of [archive, gzipSync(archive)]) {
        const args = ["buildx", "build", "--progress", "plain", "--tag", "web:3", "-"];
        const piped = await daemon.dockerWith({ input }, ...args);
        assert.equal(piped.code, 0, piped.errorText);
        assert.equal(await seen("web:3", "/file", "/given"), "packedbelow");
      }

      for (const args of [
        ["http://169.254.169.254/latest"],
        ["--build-context", "named=http://169.254.169.254/latest", `${web}/Dockerfile`],
      ]) {
        assert.match((await buildx(...args)).errorText, /the address of a metadata service/);
      }
      assert.match((await buildx(`${web}/no`)).errorText, /invalid response status 404/);
    }),
  );

  test(
    "checks a Dockerfile, and refuses by name what is not built",
    ofBuildx(async () => {
      const files = await context("refused", { Dockerfile: "FROM busybox\nRUN true\n" });
      const checked = await daemon.docker("buildx", "build", "--check", files);
      assert.match(checked.text + checked.errorText, /Check complete, no warnings found/);
      const foreign = process.arch === "arm64" ? "linux/amd64" : "linux/arm64";
      assert.match(
        (await buildx("--platform", foreign, files)).errorText,
        /RUN for linux\/\S+ is not implemented/,
      );
    }),
  );

  test(
    "has its worker and its cache seen and pruned",
    ofBuildx(async () => {
      assert.match(
        await ok("buildx", "inspect"),
        /Status:\s+running\nBuildKit version:\s+v0\.33\.1\nPlatforms:\s+linux\//,
      );
      assert.match(await ok("buildx", "du", "--verbose"), /Description:\s+\[one 2\/2\] RUN echo one > \/one/);
      assert.match(await ok("buildx", "prune", "--force", "--all"), /Total:\s+[\d.]+\w?B/);
      const usage = await callApi(daemon.socket, "GET", "/v1.48/system/df");
      assert.deepEqual((usage.json() as { BuildCache: unknown }).BuildCache, []);
    }),
  );

  test(
    "takes images of OCI layouts as contexts, and nothing for what it is not",
    inSoak,
    ofBuildx(async () => {
      const base = await context("layout-base", {
        Dockerfile: "FROM busybox\nRUN echo laid out > /laid\nENV LAID=out\n",
      });
      const layout = join(directory, "layout");
      const written = await buildx("--output", `type=oci,dest=${layout},tar=false`, base);
      assert.equal(written.code, 0, written.errorText);
      const files = await context("of-layout", {
        Dockerfile:
          "FROM named\nRUN cat /laid > /out; echo $LAID >> /out\nFROM busybox\nCOPY --from=named /laid /copied\nCOPY --from=0 /out /out\n",
      });
      const args = ["--build-context", `named=oci-layout://${layout}`];
      // The layers come from the client, not from what the first build has left.
      await ok("builder", "prune", "--all", "--force");
      const made = await buildx(...args, "--tag", "layout:1", files);
      assert.equal(made.code, 0, made.errorText);
      assert.equal(await ok("run", "--rm", "layout:1", "cat", "/out", "/copied"), "laid out\nout\nlaid out");
      const again = await buildx(...args, files);
      assert.match(again.errorText, /#(\d+) \[.*\] RUN cat .*\n#\1 CACHED\n/);
      const index = JSON.parse(await readFile(join(layout, "index.json"), "utf8")) as {
        manifests: { digest: string }[];
      };
      const blob = (digest: string | undefined) => join(layout, "blobs", (digest ?? "").replace(":", "/"));
      const manifest = JSON.parse(await readFile(blob(index.manifests[0]?.digest), "utf8")) as {
        config: { digest: string };
      };
      const config = await readFile(blob(manifest.config.digest), "utf8");
      await chmod(blob(manifest.config.digest), 0o600);
      await writeFile(blob(manifest.config.digest), config.replace("LAID=out", "LAID=bad"));
      const other = await buildx(...args, "--no-cache", files);
      assert.equal(other.code, 1);
      assert.match(other.errorText, /what the client sends is not sha256:/);
    }),
  );
});
