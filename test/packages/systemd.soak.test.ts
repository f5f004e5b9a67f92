/**
 * The Debian package where systemd is the first process: its units are started, told ready, restarted, upgraded and
 * removed by it, and hold the backends that they are for. `npm run soak -- packages`.
 */
import assert from "node:assert/strict";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { AcaAccount } from "../support/aca-daemon.ts";
import { buildLimitMs } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { assertInSandbox, DebianPackage } from "../support/debian-package.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsAccount } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import type { SystemdMachine } from "../support/systemd-machine.ts";
import { untilTrue } from "../support/until.ts";
import { assertWithinMachine, withinMachine } from "../support/within-machine.ts";

const { installed } = DebianPackage;

const deb = duringTests(() => DebianPackage.build(), { timeout: 4 * buildLimitMs });

async function stateOf(machine: SystemdMachine, unit: string): Promise<string> {
  return (await machine.run(`systemctl is-active ${unit}`)).text;
}

describe("the Debian package under systemd", () => {
  const machine = duringTests(() => deb.boot("local"), { timeout: 2 * buildLimitMs });

  const ok = (script: string): Promise<string> => machine.ok(script);
  const docker = (...args: string[]): Promise<string> => machine.docker("/run/sockerless.sock", ...args);
  const isActive = async (): Promise<boolean> => (await stateOf(machine, "sockerless")) === "active";
  const states = (): Promise<string[]> =>
    Promise.all(["sockerless.socket", "sockerless.service"].map((unit) => stateOf(machine, unit)));
  const mainPid = (): Promise<string> => ok("systemctl show --property=MainPID --value sockerless");
  const containerPid = (): Promise<string> => docker("inspect", "--format={{.State.Pid}}", "stays");
  const assertAnswers = async (pid: string): Promise<void> => {
    assert.equal(await docker("exec", "stays", "echo", "answers"), "answers");
    assert.equal(await containerPid(), pid);
  };

  it("serves after the apt line of the documents, without a network", {
    timeout: buildLimitMs,
  }, async (t) => {
    const startedAt = performance.now();
    await ok(installed);
    assert.match(await docker("run", "--rm", "--network=none", "sockerless/hello"), /Hello/);
    t.diagnostic(`${((performance.now() - startedAt) / 1000).toFixed(1)} s from the file to its output`);
    assert.deepEqual(await states(), ["active", "active"]);
    assert.equal(await ok("systemctl is-enabled sockerless.service sockerless.socket"), "enabled\nenabled");
    assert.equal(await ok("stat --format='%a %G' /run/sockerless.sock"), "660 docker");
  });

  it("runs containers as ever", { timeout: buildLimitMs }, async () => {
    await docker("load", "--input", await busyboxArchiveFile());
    await docker("network", "create", "inner");
    const options = ["--detach", "--network=inner", "--memory=64m"];
    await docker("run", ...options, "--name=stays", "busybox", "sleep", "100000");
    await docker("run", "--rm", "--network=inner", "busybox", "nslookup", "stays");
    await assertAnswers(await containerPid());
  });

  it("is told to read certificates again, and tells the end of that", async () => {
    const before = await mainPid();
    await ok("systemctl reload sockerless");
    await untilTrue(isActive); // It was `reloading`.
    assert.equal(await mainPid(), before);
  });

  it("is started by the first client where only the socket is", async () => {
    const before = await containerPid();
    await ok("systemctl stop sockerless.service");
    assert.deepEqual(await states(), ["active", "inactive"]);
    await assertAnswers(before);
    assert.deepEqual(await states(), ["active", "active"]);
  });

  it("is restarted where it was killed, and where it no longer answers", {
    timeout: buildLimitMs,
  }, async () => {
    const before = await containerPid();
    for (const signal of ["KILL", "STOP"]) {
      const ended = await mainPid();
      await ok(`kill -${signal} ${ended}`);
      await untilTrue(async () => ![ended, "0"].includes(await mainPid()) && (await isActive()));
      await assertAnswers(before);
    }
  });

  it("is another process after an upgrade, and no container notices", { timeout: buildLimitMs }, async () => {
    const [daemon, container] = [await mainPid(), await containerPid()];
    await ok(installed);
    assert.deepEqual(await states(), ["active", "active"]);
    assert.notEqual(await mainPid(), daemon);
    await assertAnswers(container);
  });

  it("ends at its removal, and serves again after another installation", {
    timeout: buildLimitMs,
  }, async () => {
    const before = await containerPid();
    await ok("apt-get remove --yes sockerless 2>&1");
    assert.deepEqual(await states(), ["inactive", "inactive"]);
    await ok(installed);
    assert.deepEqual(await states(), ["active", "active"]);
    await assertAnswers(before);
  });

  it("stays disabled where a user has disabled it", { timeout: buildLimitMs }, async () => {
    const before = await containerPid();
    await ok("systemctl disable --now sockerless.service sockerless.socket");
    await ok("apt-get remove --yes sockerless 2>&1");
    await ok(installed);
    assert.deepEqual(await states(), ["inactive", "inactive"]);
    await ok("systemctl enable --now sockerless.socket");
    await assertAnswers(before);
  });

  it("leaves nothing at a purge", { timeout: buildLimitMs }, async () => {
    await docker("rm", "--force", "stays");
    await ok("apt-get purge --yes sockerless 2>&1");
    const places = "/var/lib/sockerless /etc/sockerless /etc/systemd/system/*/sockerless*";
    assert.equal(await ok(`ls --directory ${places} 2>/dev/null || true`), "");
    assert.equal(await ok("systemctl list-units --all --no-legend 'sockerless*'"), "");
  });
});

/** Simulated accounts. */
const clouds = { ecs: () => EcsAccount.open(), aca: () => AcaAccount.open() } as const;

describe("clouds' backends under systemd", () => {
  // The simulated clouds are in this machine's network.
  const machine = duringTests(() => deb.boot("clouds", { sharesNetwork: true }), {
    timeout: 3 * buildLimitMs,
  });

  before(
    async () => {
      await machine.ok(installed);
      await machine.ok("systemctl disable --now sockerless.service sockerless.socket");
      await copyFile(
        join(checkout, "dist/test/support/within-machine.js"),
        machine.path("/opt/within-machine.mjs"),
      );
    },
    { timeout: 3 * buildLimitMs },
  );

  /** Gives `sockerless@NAME` the settings of an account. */
  async function configure(name: string, account: EcsAccount | AcaAccount): Promise<void> {
    const [, config = assert.fail()] = account.args;
    const text = await readFile(config, "utf8");
    await writeFile(
      machine.path(`/etc/sockerless/${name}.yaml`),
      text.replaceAll(account.directory, "/var/lib/sockerless/home"),
    );
    const given: Record<string, string | undefined> = { ...account.env };
    const authorities = given["NODE_EXTRA_CA_CERTS"];
    if (authorities !== undefined) {
      await copyFile(authorities, machine.path("/opt/authorities.pem"));
      given["NODE_EXTRA_CA_CERTS"] = "/opt/authorities.pem";
    }
    const env = { ...withinMachine(given), NODE_OPTIONS: "--import=/opt/within-machine.mjs" };
    const lines = Object.entries(env).map(([key, value]) => `Environment="${key}=${value}"`);
    await machine.ok(`mkdir --parents /etc/systemd/system/sockerless@${name}.service.d`);
    await writeFile(
      machine.path(`/etc/systemd/system/sockerless@${name}.service.d/test.conf`),
      ["[Service]", ...lines, ""].join("\n"),
    );
    await machine.ok("systemctl daemon-reload");
  }

  /** As root, on the state of the unit's own user. */
  async function backUpAndMend(name: string): Promise<void> {
    const state = `/var/lib/sockerless/${name}`;
    await machine.ok(`sockerless backup /root/${name}.tar.gz --state-dir ${state}`);
    await machine.ok(`systemctl stop sockerless@${name}; rm -r ${state}`);
    await machine.ok(`sockerless restore /root/${name}.tar.gz --state-dir ${state}`);
    await machine.ok(`systemctl start sockerless@${name}`);
    await machine.ok(`systemctl stop sockerless@${name}; echo damaged >${state}/db/CURRENT`);
    assert.match(await machine.ok(`sockerless check --repair --state-dir ${state}`), /^db\/CURRENT /);
    await machine.ok(`systemctl start sockerless@${name}`);
  }

  for (const [name, open] of Object.entries(clouds)) {
    it(`run in their sandbox: ${name}`, { timeout: 2 * buildLimitMs }, async () => {
      await using account = await open();
      await configure(name, account);
      const unit = `sockerless@${name}`;
      const docker = (...args: string[]): Promise<string> =>
        machine.docker(`/run/sockerless-${name}/docker.sock`, ...args);
      await machine.ok(`systemctl enable --now ${unit}`);
      try {
        await assertInSandbox(machine, unit);
        if (account instanceof EcsAccount) {
          await docker("load", "--input", await busyboxArchiveFile());
        } else {
          await docker("pull", account.image("busybox:latest"));
          await docker("tag", account.image("busybox:latest"), "busybox");
        }
        await docker("volume", "create", "data");
        await docker("run", "--detach", "--name=stays", "--volume=data:/data", "busybox", "sleep", "100000");
        await docker("exec", "stays", "sh", "-c", "echo kept >/data/file");
        assert.equal(await docker("run", "--rm", "--publish-all", "busybox", "echo", "ran"), "ran");
        await machine.ok(`systemctl reload ${unit}`);
        await machine.ok(`systemctl restart ${unit}`);
        assert.equal(await docker("exec", "stays", "cat", "/data/file"), "kept");
        await docker("cp", "stays:/data/file", join(deb.directory, "copy"));
        await backUpAndMend(name);
        assert.equal(await docker("exec", "stays", "cat", "/data/file"), "kept");
        await docker("rm", "--force", "--volumes", "stays");
        await docker("volume", "rm", "data");
        assertWithinMachine(await machine.ok(`journalctl --no-pager --output=cat --unit=${unit}`));
      } catch (error) {
        console.error(await machine.ok(`journalctl --no-pager --lines=50 --unit=${unit}`));
        throw error;
      } finally {
        await machine.ok(`systemctl disable --now ${unit}`);
      }
    });
  }
});
