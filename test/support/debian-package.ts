/** The Debian package of this checkout, and machines that have its file. */
import assert from "node:assert/strict";
import { copyFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { buildLimitMs, runCommand, runFetching } from "./command.ts";
import { checkout } from "./daemon.ts";
import { copyDebianRoot } from "./debian-root.ts";
import { SystemdMachine, type SystemdMachineOptions, systemdPackages } from "./systemd-machine.ts";

const architecture = process.arch === "x64" ? "amd64" : "arm64";
/** The package's file in a machine. */
const file = "/root/sockerless.deb";

/** The package, in a directory that is gone at the end. */
export class DebianPackage implements AsyncDisposable {
  /** Installs it in a machine, also where it is installed already. */
  static readonly installed = `apt-get install --yes --no-install-recommends --reinstall ${file} 2>&1`;

  /** Directory of its file, and of the machines' roots. */
  readonly directory: string;
  readonly #deb: string;

  private constructor(directory: string, deb: string) {
    this.directory = directory;
    this.#deb = deb;
  }

  static async build(): Promise<DebianPackage> {
    const directory = await mkdtemp(join(tmpdir(), "sockerless-packages-"));
    const script = ["--import", "tsx", "scripts/package.ts", "--output", directory, "--kind", "deb"];
    const built = await runFetching(process.execPath, [...script, "--architecture", architecture], {
      cwd: checkout,
      timeout: 4 * buildLimitMs,
    });
    assert.equal(built.code, 0, built.errorText);
    const [name = assert.fail()] = await readdir(directory);
    return new DebianPackage(directory, join(directory, name));
  }

  /** Boots a machine that has the package's file, and what the package depends on. */
  async boot(name: string, options?: SystemdMachineOptions): Promise<SystemdMachine> {
    const { text: depends } = await runCommand("dpkg-deb", ["--field", this.#deb, "Depends"]);
    const names = depends.split(", ").map((each) => each.split(" ")[0] ?? "");
    const root = join(this.directory, name);
    await copyDebianRoot(root, [...names, ...systemdPackages]);
    await copyFile(this.#deb, join(root, file));
    return await SystemdMachine.boot(root, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Asserts that a service of a machine runs as its user in its sandbox. */
export async function assertInSandbox(machine: SystemdMachine, unit: string): Promise<void> {
  const pid = await machine.ok(`systemctl show --property=MainPID --value ${unit}`);
  const status = await machine.ok(`grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/${pid}/status`);
  assert.equal(status, "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2");
  assert.equal(await machine.ok(`stat --format=%U /proc/${pid}`), "sockerless");
}
