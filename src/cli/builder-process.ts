/**
 * The builder as a process: compiled by the first build, started by the first request after a start of `serve`, and
 * started again where it has ended by itself, or was killed with an earlier `serve`: it takes away the containers that the
 * last one has left. It holds no container and no image that the backend does not know.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import type { Config, EcsSection } from "../common/config/load.ts";
import { systemError } from "../common/errors.ts";
import { portSocketOf } from "../common/port-socket.ts";
import { ProcessLog } from "../common/process-log.ts";
import type { RareLogger } from "./rare-logger.ts";
import { RestartPauses } from "./restart-pauses.ts";

const checkout = fileURLToPath(new URL("../../../", import.meta.url));
const program = path.join(checkout, "build/sockerless-builder");
const compiler = path.join(checkout, "scripts/prepare/build-builder.mjs");

/** Exit code of the compiler's check: it would have to compile. */
const needsCompiling = 3;

/** How long a builder may take to serve, and to end. */
const startLimitMs = 30_000;
const stopLimitMs = 15_000;
const pollMs = 20;

/** Files of the checkout that a builder comes from. */
export interface BuilderFiles {
  readonly program: string;
  readonly compiler: string;
}

/** Settings of a builder. */
export type BuilderConfig = Pick<
  Config,
  "stateDir" | "runDir" | "backendAddress" | "builder" | "insecureRegistries"
> & {
  readonly ecs?: Pick<EcsSection, "architecture">;
  readonly aca?: object;
};

/** The machine and user that a builder would have; architecture as Node tells it. */
export interface BuilderHost {
  readonly architecture: string;
  readonly userId: number | undefined;
}

/** Why no builder can work here; undefined: one can. */
export function builderRefusal(
  { ecs, aca }: Pick<BuilderConfig, "ecs" | "aca">,
  { architecture, userId }: BuilderHost,
): string | undefined {
  if (userId !== 0) {
    return "builds are not possible here: they need root on the machine of `sockerless serve`, as files of images have many owners";
  }
  const own = architecture === "x64" ? "amd64" : architecture;
  const asked = aca === undefined ? "ecs.architecture" : "as jobs of Container Apps are";
  const wanted = aca === undefined ? (ecs?.architecture ?? own) : "amd64";
  return wanted === own
    ? undefined
    : `builds for linux/${wanted} (${asked}) are not possible here: this machine is linux/${own}`;
}

/** One builder at a time. */
export class BuilderProcess {
  readonly #config: BuilderConfig;
  readonly #logger: RareLogger;
  readonly #log: ProcessLog;
  readonly #files: BuilderFiles;
  #process: ChildProcess | undefined;
  #compiler: ChildProcess | undefined;
  #starting: Promise<string> | undefined;
  readonly #onCompile = new Set<() => void>();
  #isCompiling = false;
  readonly #pauses = new RestartPauses();
  #restarting: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(config: BuilderConfig, logger: RareLogger, files: BuilderFiles = { program, compiler }) {
    this.#config = config;
    this.#logger = logger;
    this.#log = new ProcessLog(logger, "builder");
    this.#files = files;
  }

  /**
   * Starts the builder unless it runs.
   *
   * @param onlyIfUsed do not start one that has never built anything here
   * @param onCompile called if it has to be compiled first
   * @returns its socket's path; undefined: it was never used, or this installation has none
   * @throws SockerlessError of kind `system`
   */
  async start(onlyIfUsed: boolean, onCompile: () => void): Promise<string | undefined> {
    const { program, compiler } = this.#files;
    if (!(existsSync(program) || existsSync(compiler))) {
      return undefined;
    }
    if (onlyIfUsed && !(existsSync(program) && existsSync(path.join(this.#stateDir, "states.db")))) {
      return undefined;
    }
    if (this.#isCompiling) {
      onCompile();
    } else {
      this.#onCompile.add(onCompile);
    }
    try {
      return (await this.#serving(onlyIfUsed)) ?? (await this.#started(onlyIfUsed));
    } catch (error) {
      this.#starting = undefined;
      throw error;
    } finally {
      this.#onCompile.delete(onCompile);
    }
  }

  /** Starts the builder again where the last one did not end in good order: it takes away what that one has left. */
  resume(): void {
    if (existsSync(this.#mark)) {
      this.#startLater(0);
    }
  }

  /** Ends the builder, and with it the builds under way, and removes the socket that a killed one has left. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restarting);
    this.#compiler?.kill("SIGTERM");
    await this.#end();
    await rm(this.#socket, { force: true });
    if (this.#process?.exitCode === 0) {
      await rm(this.#mark, { force: true });
    }
  }

  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#restarting);
    this.#compiler?.kill("SIGKILL");
    this.#process?.kill("SIGKILL");
  }

  get #stateDir(): string {
    return path.join(this.#config.stateDir, "builder");
  }

  get #socket(): string {
    return path.join(this.#config.runDir, "builder.sock");
  }

  /** A file that is there while a builder runs, and behind one that did not end in good order. */
  get #mark(): string {
    return path.join(this.#stateDir, "running");
  }

  /** The socket of the builder that runs; undefined: there is none, or none any more though its exit was not told yet. */
  async #serving(usesWhatIsThere: boolean): Promise<string | undefined> {
    const socket = await this.#started(usesWhatIsThere);
    if (await accepts(socket)) {
      return socket;
    }
    await this.#end();
    return undefined;
  }

  /** Ends the process. One that ends by itself, as it tells its clients why, is left the time for that. */
  async #end(): Promise<void> {
    const child = this.#process;
    if (child !== undefined && !hasExited(child)) {
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      const limit = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
      await exited;
      clearTimeout(limit);
    }
  }

  #started(usesWhatIsThere: boolean): Promise<string> {
    this.#starting ??= this.#start(usesWhatIsThere);
    return this.#starting;
  }

  async #start(usesWhatIsThere: boolean): Promise<string> {
    const host = { architecture: process.arch, userId: process.geteuid?.() };
    const refusal = builderRefusal(this.#config, host);
    if (refusal !== undefined) {
      throw systemError(refusal);
    }
    if (existsSync(this.#files.compiler) && !usesWhatIsThere) {
      await this.#compile();
    }
    const socket = this.#socket;
    const { backendAddress, builder, insecureRegistries, runDir } = this.#config;
    const isOnSocket = backendAddress.startsWith("unix://");
    const backend = isOnSocket ? backendAddress : `unix://${portSocketOf(runDir)}`;
    const flags = ["--backend-address", backend, "--listen", socket, "--state-dir", this.#stateDir];
    flags.push("--cache-size", String(builder.cacheSize));
    flags.push("--context-size", String(builder.contextSize));
    flags.push("--memory", String(builder.memory));
    flags.push("--insecure-registries", insecureRegistries.join(","));
    // A builder that was left behind and still ends would take what is sent to it along.
    await rm(socket, { force: true });
    await mkdir(this.#stateDir, { recursive: true, mode: 0o700 });
    await writeFile(this.#mark, "");
    if (this.#stopping) {
      throw systemError("the builder is not started: sockerless ends");
    }
    this.#pauses.started();
    // The pipe's end tells it that this process is gone.
    const child = spawn(this.#files.program, ["--supervised", ...flags], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    this.#log.follow(child.stderr);
    child.stdin?.on("error", () => {});
    let failure: Error | undefined;
    child.on("error", (error) => {
      failure ??= error;
      this.#logger.error({ err: error }, "the builder");
    });
    child.once("exit", (code, signal) => {
      this.#starting = undefined;
      if (!this.#stopping) {
        const reason = signal ?? `exit code ${code}`;
        const delayMs = this.#pauses.crashed();
        this.#logger.error({ reason, delayMs }, "the builder ended unexpectedly, starting it again");
        this.#startLater(delayMs);
      }
    });
    this.#process = child;
    const limit = performance.now() + startLimitMs;
    while (!(await accepts(socket))) {
      if (child.pid === undefined) {
        throw systemError(`the builder cannot be started: ${failure?.message}`, failure);
      }
      if (hasExited(child)) {
        throw systemError("the builder did not start: see its line in the log");
      }
      if (performance.now() > limit) {
        child.kill("SIGKILL");
        throw systemError(`the builder did not serve within ${startLimitMs / 1000} seconds`);
      }
      await delay(pollMs);
    }
    return socket;
  }

  /** Starts it, unless somebody has done so by then. */
  #startLater(delayMs: number): void {
    this.#restarting = setTimeout(() => {
      this.start(true, () => {}).catch((error: unknown) => {
        this.#logger.error({ err: error }, "the builder does not start");
      });
    }, delayMs);
  }

  async #compile(): Promise<void> {
    if ((await this.#runCompiler("--check")) !== needsCompiling) {
      return;
    }
    this.#isCompiling = true;
    try {
      for (const tell of this.#onCompile) {
        tell();
      }
      if ((await this.#runCompiler()) !== 0) {
        throw systemError("the builder cannot be compiled: see the log of sockerless");
      }
    } finally {
      this.#isCompiling = false;
    }
  }

  async #runCompiler(...flags: string[]): Promise<number> {
    const child = spawn(process.execPath, [this.#files.compiler, ...flags], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#log.follow(child.stdout);
    this.#log.follow(child.stderr);
    this.#compiler = child;
    const [code] = (await once(child, "exit")) as [number | null];
    return code ?? 1;
  }
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Whether somebody listens on a socket. */
function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.once("connect", () => {
      connection.destroy();
      resolve(true);
    });
    connection.once("error", () => resolve(false));
  });
}
