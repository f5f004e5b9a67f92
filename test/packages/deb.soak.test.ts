/**
 * The Debian packages: two builds are equal, that of this machine is installed, upgraded, removed and purged in a bare
 * Debian 12 without a network, and serves there. `npm run soak -- packages`.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { appendFile, mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { copyDebianRoot } from "../support/debian-root.ts";
import { scratchDirectory } from "../support/scratch.ts";

const buildLimitMs = 40 * 60_000;
const machine = process.arch === "x64" ? "amd64" : "arm64";
/** `e_machine` of ELF files. */
const elfMachines = { amd64: 0x3e, arm64: 0xb7 } as const;

/** Serves one container in a root where no service manager runs, and tells what was said. */
const firstContainer = `
set -e
mkdir -p /run/sockerless
ip link set lo up 2>/dev/null || true
sockerless serve --detach --config /etc/sockerless/sockerless.yaml >/dev/null
node=/usr/lib/sockerless/node_modules/node/bin/node
$node --eval '
const { request } = require("http");
const call = (method, path, body) => new Promise((done, failed) => {
  const sent = request({ socketPath: "/run/sockerless.sock", method, path, headers: { "content-type": "application/json" } }, (answer) => {
    let text = "";
    answer.on("data", (part) => (text += part)).on("end", () => done({ status: answer.statusCode, text }));
  });
  sent.on("error", failed).end(body && JSON.stringify(body));
});
(async () => {
  const made = await call("POST", "/containers/create?name=first", { Image: "sockerless/hello", HostConfig: { NetworkMode: "none" } });
  if (made.status !== 201) throw new Error(made.text);
  const started = await call("POST", "/containers/first/start");
  if (started.status !== 204) throw new Error(started.text);
  console.log((await call("POST", "/containers/first/wait")).text);
  console.log((await call("GET", "/containers/first/logs?stdout=1")).text);
  await call("DELETE", "/containers/first");
})();'
sockerless stop --config /etc/sockerless/sockerless.yaml
`;

describe("the Debian packages", () => {
  const directory = scratchDirectory();
  let root: string;
  const file = (architecture: string, build = "first"): string =>
    join(directory, build, `${architecture}.deb`);

  const succeed = async (program: string, ...args: string[]): Promise<string> => {
    const result = await runCommand(program, args, { cwd: checkout, timeout: buildLimitMs });
    assert.equal(result.code, 0, `${program} ${args.join(" ")}: ${result.text}\n${result.errorText}`);
    return result.text;
  };
  const build = async (name: string, ...architectures: string[]): Promise<void> => {
    const output = join(directory, name);
    const script = ["--import", "tsx", "scripts/package.ts", "--output", output];
    await succeed(process.execPath, ...script, "--architecture", ...architectures);
    for (const deb of await readdir(output)) {
      const architecture = /_([^_]+)\.deb$/.exec(deb)?.[1];
      await succeed("mv", join(output, deb), join(output, `${architecture}.deb`));
    }
  };
  /** Runs a script in the root: without a network, and with a /proc, /sys and /dev of its own. */
  const inRoot = (script: string): Promise<CommandResult> => {
    const mounts = `set -e
      mount --bind ${root} ${root}
      mount -t proc proc ${root}/proc
      mount -t sysfs sysfs ${root}/sys
      mount --rbind /sys/fs/cgroup ${root}/sys/fs/cgroup
      mount --rbind /dev ${root}/dev
      mount -t tmpfs tmpfs ${root}/run
      mount -t tmpfs tmpfs ${root}/var/lib/sockerless 2>/dev/null || true
      exec chroot ${root} /bin/sh -ec "$0"`;
    const isolated = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"];
    return runCommand("unshare", [...isolated, "sh", "-c", mounts, script], { timeout: buildLimitMs });
  };
  const ok = async (script: string): Promise<string> => {
    const result = await inRoot(script);
    assert.equal(result.code, 0, `${script}: ${result.text}\n${result.errorText}`);
    return result.text;
  };
  const install = (name: string): Promise<string> => ok(`dpkg -i ${name} 2>&1`);
  const digest = async (path: string): Promise<string> =>
    createHash("sha256")
      .update(await readFile(path))
      .digest("hex");

  before(async () => {
    root = join(directory, "root");
    await build("first", "amd64", "arm64");
    const depends = await succeed("dpkg-deb", "--field", file(machine), "Depends");
    const names = depends.split(", ").map((each) => each.split(" ")[0] ?? "");
    await copyDebianRoot(root, names);
    await mkdir(join(root, "debs"));
    await succeed("cp", file(machine), join(root, "debs/sockerless.deb"));
  });
  it("are the same in two builds", async () => {
    await build("second", "amd64", "arm64");
    for (const architecture of ["amd64", "arm64"]) {
      assert.equal(
        await digest(file(architecture, "second")),
        await digest(file(architecture)),
        architecture,
      );
    }
  });

  for (const architecture of ["amd64", "arm64"] as const) {
    it(`hold programs of ${architecture} and no other`, async () => {
      const content = join(directory, `content-${architecture}`);
      await succeed("dpkg-deb", "--extract", file(architecture), content);
      const foreign: string[] = [];
      let programs = 0;
      for (const entry of await readdir(content, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        const head = entry.isFile() ? (await readFile(path)).subarray(0, 20) : Buffer.alloc(0);
        if (head.subarray(0, 4).toString("latin1") === "\x7fELF") {
          programs++;
          if (head.readUInt16LE(18) !== elfMachines[architecture]) {
            foreign.push(path);
          }
        }
      }
      assert.deepEqual(foreign, []);
      assert.ok(programs >= 6, `${programs} programs`);
      const home = join(content, "usr/lib/sockerless");
      for (const path of [
        "node_modules/node/bin/node",
        "build/sockerless-agent",
        "build/sockerless-builder",
      ]) {
        assert.ok(existsSync(join(home, path)), path);
      }
      await rm(content, { recursive: true });
    });
  }

  it("serve a first container where they are installed without a network", async (t) => {
    const startedAt = performance.now();
    await install("/debs/sockerless.deb");
    const told = await ok(firstContainer);
    t.diagnostic(`${((performance.now() - startedAt) / 1000).toFixed(1)} s from the file to its output`);
    assert.match(told, /"StatusCode":0/);
    assert.match(told, /Hello/i);
    assert.match(await ok("sockerless version"), /^sockerless \S+, commit [0-9a-f]{40}, \d{4}-\d{2}-\d{2}$/);
  });

  it("have units that systemd takes, and clouds' backends in a sandbox", async () => {
    for (const unit of ["sockerless.service", "sockerless.socket", "sockerless@ecs.service"]) {
      await succeed("systemd-analyze", "verify", `--root=${root}`, "--man=no", "--recursive-errors=no", unit);
    }
    const security = ["security", "--offline=true", `--root=${root}`, "--no-pager"];
    await succeed("systemd-analyze", ...security, "--threshold=25", "sockerless@ecs.service");
  });

  it("have man pages and completions of every command", async () => {
    assert.match(
      await readFile(join(root, "usr/share/bash-completion/completions/sockerless"), "utf8"),
      /push-agent/,
    );
    const completed = await succeed(
      "bash",
      "-c",
      `. ${root}/usr/share/bash-completion/completions/sockerless
       COMP_WORDS=(sockerless ecs p); COMP_CWORD=2; _sockerless; echo "\${COMPREPLY[@]}"`,
    );
    assert.equal(completed, "push-agent");
    const completedByZsh = await succeed(
      "zsh",
      "-f",
      "-c",
      `_describe() { print -l -- \${\${(P)2}%%:*}; }
       words=(sockerless ecs p) CURRENT=3; . ${root}/usr/share/zsh/vendor-completions/_sockerless`,
    );
    assert.equal(completedByZsh.trim(), "push-agent");
    assert.ok(existsSync(join(root, "usr/share/man/man1/sockerless-ecs-push-agent.1.gz")));
  });

  it("have logrotate cut the log in place, so that the daemon goes on writing to it", async () => {
    const log = join(root, "var/lib/sockerless/local/sockerless.log");
    await mkdir(join(log, ".."), { recursive: true });
    await writeFile(log, "first\n");
    const writer = await open(log, "a");
    const rules = await readFile(join(root, "etc/logrotate.d/sockerless"), "utf8");
    await writeFile(join(directory, "rules"), rules.replaceAll("/var/lib", join(root, "var/lib")));
    const state = join(directory, "logrotate");
    await succeed("logrotate", "--force", "--state", state, join(directory, "rules"));
    await writer.write("second\n");
    await writer.close();
    assert.equal(await readFile(log, "utf8"), "second\n");
    assert.equal(await succeed("zcat", `${log}.1.gz`), "first");
  });

  it("keep settings and state through an upgrade and a removal, and nothing through a purge", async () => {
    await appendFile(join(root, "etc/sockerless/sockerless.yaml"), "log_level: warn\n");
    await install("/debs/sockerless.deb");
    const settings = (): Promise<string> => readFile(join(root, "etc/sockerless/sockerless.yaml"), "utf8");
    assert.match(await settings(), /log_level: warn/);
    await ok("dpkg --remove sockerless 2>&1");
    assert.match(await settings(), /log_level: warn/);
    assert.ok(!existsSync(join(root, "usr/lib/sockerless")));
    await ok("dpkg --purge sockerless 2>&1");
    assert.ok(!existsSync(join(root, "etc/sockerless")));
    assert.deepEqual(
      await readdir(join(root, "usr/lib/systemd/system")).then((all) =>
        all.filter((each) => each.startsWith("sockerless")),
      ),
      [],
    );
  });
});
