/** Debian's `docker-registry`, which keeps the blobs and checks manifests; a cloud's own rules are before it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A running registry on loopback that lets everybody in. */
export class DockerRegistry implements AsyncDisposable {
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(port: number, process: ChildProcess) {
    this.port = port;
    this.#process = process;
  }

  /** @param directory for its files; the caller's to remove */
  static async start(directory: string): Promise<DockerRegistry> {
    await mkdir(directory, { recursive: true });
    const configuration = join(directory, "config.yml");
    // JSON is YAML.
    await writeFile(
      configuration,
      JSON.stringify({
        version: "0.1",
        log: { level: "info", formatter: "json", accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: join(directory, "storage") }, delete: { enabled: true } },
        http: { addr: "127.0.0.1:0", relativeurls: true },
      }),
    );
    // Dies with this process, however that ends.
    const command = ["--pdeathsig", "KILL", "docker-registry", "serve", configuration];
    const child = spawn("setpriv", command, {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true, // not ended by a terminal's Ctrl-C before what uses it
    });
    return new DockerRegistry(await listeningPort(child), child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, "exit");
      this.#process.kill("SIGKILL");
      await ended;
    }
  }
}

async function listeningPort({ stderr }: ChildProcess): Promise<number> {
  const seen: string[] = [];
  if (stderr !== null) {
    for await (const line of createInterface(stderr)) {
      seen.push(line);
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      if (port !== undefined) {
        stderr.resume();
        return Number(port);
      }
    }
  }
  throw new Error(`docker-registry ended before it listened:\n${seen.join("\n")}`);
}
