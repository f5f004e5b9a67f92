/** Builds on the ACA backend: what of them is a job, and what Azure is asked for. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { build, built, compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { buildLimitMs } from "../support/command.ts";
import { buildProgram } from "../support/programs.ts";
import { makeSshKey } from "../support/ssh-key.ts";
import { untilTrue } from "../support/until.ts";

before(compileBuilder, { timeout: buildLimitMs });

describe("a build on Container Apps", () => {
  let aca: AcaDaemon;

  before(async () => {
    aca = await AcaDaemon.start({ aca: { linger: "20m" } }); // A step has as long as that to follow another.
  });
  after(async () => {
    await aca?.stop();
  });
  beforeEach(() => aca.azure.calls.clear());

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const socket = (): string => aca.daemon.socket;
  const base = (): string => `FROM ${aca.account.image("busybox")}`;
  const containers = (): Promise<string> =>
    ok("ps", "--all", "--quiet", "--filter", "label=sockerless.build");
  const jobs = (): number => aca.azure.calls.count("app.Jobs_Start");

  it("without RUN starts no job, and its image runs", async () => {
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
    assert.equal(jobs(), 0);
    assert.equal(await containers(), "");
    const printed = await ok("run", "--rm", "copied:1");
    assert.equal(printed, "copiedcopied 640 1000:1000\nroot:x:0:0:root:/root:/bin/sh");
  });

  it("runs what a RUN says in a job, which stays for what follows, and whose changes are layers", async () => {
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
    assert.equal(jobs(), 1, "a COPY between them is put into it");
    assert.equal(await containers(), "");
    const { text: printed } = await aca.daemon.docker("run", "--rm", "ran:1");
    assert.equal(printed, "one\ntwo\n1000\n644 1000\n4755 0");
    aca.azure.calls.clear();
    const again = await build(socket(), dockerfile, { files });
    assert.equal(again.id, id, again.text);
    assert.equal(jobs(), 0);
  });

  it("begins as another user where its base does, in an image that is derived", async () => {
    await built(socket(), `${base()}\nUSER app\n`, { query: { t: "other:1" } });
    const dockerfile = "FROM other:1\nRUN id -u > /tmp/user\nUSER root\nRUN id -u >> /tmp/user\n";
    const { text, error } = await build(socket(), dockerfile, { query: { t: "users:1" } });
    assert.equal(error, undefined, text);
    assert.equal(await ok("run", "--rm", "users:1", "cat", "/tmp/user"), "1000\n0");
  });

  it("shares cache mounts by file shares", async () => {
    const dockerfile = (n: number) => `${base()}
RUN --mount=type=cache,target=/kept echo ${n} >> /kept/n; cat /kept/n > /out
CMD ["sh", "-c", "cat /out; find / -path /kept/n | wc -l"]
`;
    await built(socket(), dockerfile(1));
    await built(socket(), dockerfile(2), { query: { t: "cached:1" } });
    assert.equal(await ok("run", "--rm", "cached:1"), "1\n2\n0");
  });

  it("refuses by name what a job cannot have, and leaves nothing of it", async () => {
    const cases: readonly (readonly [string, RegExp, Record<string, string>?])[] = [
      ["RUN --network=host true", /network\.host is not allowed/],
      ["RUN true", /the aca backend does not support RUN --network=host/, { networkmode: "host" }],
      ["RUN --network=none true", /the aca backend does not support --network none/],
      [
        "RUN --mount=type=bind,from=base,target=/x true",
        /the aca backend does not support --mount type=image/,
      ],
      ["RUN --mount=type=cache,target=/x,uid=7 true", /RUN --mount=type=cache with uid, gid, mode or from/],
      ["RUN --security=insecure true", /security\.insecure is not allowed|--security=insecure/],
    ];
    for (const [instruction, message, query = {}] of cases) {
      const dockerfile = `# syntax=docker/dockerfile:1-labs\n${base()} AS base\n${base()}\n${instruction}\n`;
      const { error } = await build(socket(), dockerfile, { query });
      assert.match(error?.message ?? "", message, instruction);
    }
    assert.equal(await containers(), "");
    assert.equal(jobs(), 0);
  });

  it("gives its steps their secrets by the agent alone", { timeout: pluginLimitMs }, async (t) => {
    const plugin = await findPlugin("buildx");
    if ("missing" in plugin) {
      t.skip(plugin.missing);
      return;
    }
    await installPlugin(aca.daemon, plugin.path);
    const secret = `secret-${randomUUID()}`;
    const directory = await mkdtemp(join(tmpdir(), "skl-context-"));
    t.after(() => rm(directory, { recursive: true }));
    await writeFile(join(directory, "token"), secret);
    const dockerfile = `${base()}
RUN --mount=type=secret,id=token,mode=440,uid=1000 stat -c '%a %u' /run/secrets/token > /seen
RUN --mount=type=secret,id=token,env=TOKEN printf %s "$TOKEN" | sha256sum >> /seen; ls -d /run/secrets/token >> /seen 2>/dev/null; true
`;
    await writeFile(join(directory, "Dockerfile"), dockerfile);
    const given = ["--secret", `id=token,src=${join(directory, "token")}`, "--tag", "secrets:1"];
    const { code, errorText } = await aca.daemon.docker("buildx", "build", ...given, directory);
    assert.equal(code, 0, errorText);
    assert.equal(jobs(), 1);
    const digest = createHash("sha256").update(secret).digest("hex");
    assert.equal(await ok("run", "--rm", "secrets:1", "cat", "/seen"), `440 1000\n${digest}  -`);
    assert.doesNotMatch(JSON.stringify(aca.azure.calls.all()), new RegExp(secret));
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

  it("that fails tells the exit code, and leaves neither container nor job", async () => {
    const { error, text } = await build(socket(), `${base()}\nRUN echo before; exit 7\n`);
    assert.equal(error?.code, 7, text);
    assert.equal(await containers(), "");
    await untilTrue(() => aca.azure.app.jobs.names().length === 0);
  });
});
