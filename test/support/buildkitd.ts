/** A real BuildKit on paths of its own, to compare with: its steps run by runc on this machine. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import { removeCgroup } from "../simulators/common/machine/cgroups.ts";
import { recordName } from "./made.ts";
import { until } from "./until.ts";

export class Buildkitd implements AsyncDisposable {
  readonly #directory: string;
  readonly #process: ChildProcess;

  private constructor(directory: string, child: ChildProcess) {
    this.#directory = directory;
    this.#process = child;
  }

  /** Starts the program at a path. */
  static async start(program: string): Promise<Buildkitd> {
    const directory = await mkdtemp(join(tmpdir(), "skl-buildkitd-"));
    const config = join(directory, "buildkitd.toml");
    const cgroup = recordName(basename(directory));
    await writeFile(
      config,
      `[worker.oci]\ndefaultCgroupParent = "/${cgroup}"\nnetworkMode = "host"\n[worker.containerd]\nenabled = false\n`,
    );
    const socket = join(directory, "buildkitd.sock");
    const child = spawn(
      program,
      ["--config", config, "--root", join(directory, "root"), "--addr", `unix://${socket}`],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let output = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-20_000);
    });
    const daemon = new Buildkitd(directory, child);
    await until(async () => {
      if (child.exitCode !== null) {
        throw new Error(`buildkitd ended with ${child.exitCode}:\n${output}`);
      }
      return (await isListening(socket)) ? true : undefined;
    });
    return daemon;
  }

  /** Its address for clients. */
  get address(): string {
    return `unix://${join(this.#directory, "buildkitd.sock")}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null) {
      const ended = once(this.#process, "exit");
      this.#process.kill("SIGTERM");
      await ended;
    }
    // Those of its steps and one of its own, which it keeps.
    await removeCgroup(`/${basename(this.#directory)}`);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function isListening(socket: string): Promise<boolean> {
  return new Promise((done) => {
    const connection = connect(socket, () => {
      connection.destroy();
      done(true);
    });
    connection.on("error", () => done(false));
  });
}
