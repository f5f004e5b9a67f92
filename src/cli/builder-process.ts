/**
 * Runs the builder as a child process. The first build compiles it. The first request after a start of `serve` starts
 * it. It is restarted after a crash, and after a `serve` that was killed, to remove the containers that its predecessor
 * left. It holds no container and no image that the backend does not know.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";

import { checkout } from "../common/built-programs.ts";
import { endOf, hasExited, RestartPauses, untilExit } from "../common/child-processes.ts";
import type { Config, EcsSection, KubernetesSection } from "../common/config/load.ts";
import { errnoOf, systemError } from "../common/errors.ts";
import { builderSocketOf, portSocketOf } from "../common/port-socket.ts";
import { type LineLogger, ProcessLog } from "../common/process-log.ts";

const program = path.join(checkout, "build/sockerless-builder");
const compiler = path.join(checkout, "scripts/prepare/build-builder.mjs");

/** Exit code of the compiler's check: the builder needs compiling. */
const needsCompiling = 3;

/** Time limits for the builder to begin serving, and to end. */
const startLimitMs = 30_000;
const stopLimitMs = 15_000;
const pollMs = 20;

/** Files of the checkout that the builder is made from. */
export interface BuilderFiles {
  readonly program: string;
  readonly compiler: string;
}

/** Settings of a builder. */
export type BuilderConfig = Pick<
  Config,
  "stateDir" | "runDir" | "backendAddress" | "builder" | "insecureRegistries" | "metricsAddr"
> & {
  readonly ecs?: Pick<EcsSection, "architecture">;
  readonly aca?: object;
  readonly kubernetes?: Pick<KubernetesSection, "architecture">;
};

/** The machine and user that a builder would run on; `architecture` is Node's `process.arch`. */
export interface BuilderHost {
  readonly architecture: string;
  readonly userId: number | undefined;
}

/** The reason why no builder can run here; undefined if one can. */
export function builderRefusal(
  { ecs, aca, kubernetes }: Pick<BuilderConfig, "ecs" | "aca" | "kubernetes">,
  { architecture, userId }: BuilderHost,
): string | undefined {
  if (userId !== 0) {
    return "builds are not possible here: they need root on the machine of `sockerless serve`, as files of images have many owners";
  }
  const own = architecture === "x64" ? "amd64" : architecture;
  const section = kubernetes === undefined ? "ecs" : "kubernetes";
  const asked = aca === undefined ? `${section}.architecture` : "as jobs of Container Apps are";
  const wanted = aca === undefined ? ((kubernetes ?? ecs)?.architecture ?? own) : "amd64";
  return wanted === own
    ? undefined
    : `builds for linux/${wanted} (${asked}) are not possible here: this machine is linux/${own}`;
}

/** One builder at a time. */
export class BuilderProcess {
  readonly #config: BuilderConfig;
  readonly #logger: LineLogger;
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

  constructor(config: BuilderConfig, logger: LineLogger, files: BuilderFiles = { program, compiler }) {
    this.#config = config;
    this.#logger = logger;
    this.#log = new ProcessLog(logger, "builder");
    this.#files = files;
  }

  /**
   * Starts the builder unless it is running.
   *
   * @param onlyIfUsed do not start a builder that has never built anything here
   * @param onCompile called if the builder must be compiled first
   * @returns the path of its socket; undefined if it was never used, or this installation has no builder
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
    } finally {
      this.#onCompile.delete(onCompile);
    }
  }

  /** Restarts the builder if its predecessor did not end cleanly: it removes what that one left behind. */
  resume(): void {
    if (existsSync(this.#mark)) {
      this.#startLater(0);
    }
  }

  /** Ends the builder with its current builds, and removes a socket that a killed one left. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restarting);
    this.#compiler?.stdin?.destroy();
    await this.#end();
    await rm(this.#socket, { force: true });
    if (this.#process?.exitCode === 0) {
      await rm(this.#mark, { force: true });
    }
  }

  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#restarting);
    this.#compiler?.stdin?.destroy();
    this.#process?.kill("SIGKILL");
  }

  get #stateDir(): string {
    return path.join(this.#config.stateDir, "builder");
  }

  get #socket(): string {
    return builderSocketOf(this.#config.runDir);
  }

  /** A file that exists while a builder runs, and after one that did not end cleanly. */
  get #mark(): string {
    return path.join(this.#stateDir, "running");
  }

  /**
   * The socket of the running builder; undefined if none runs, or it has ended and its "exit" event is still to come.
   */
  async #serving(usesWhatIsThere: boolean): Promise<string | undefined> {
    const socket = await this.#started(usesWhatIsThere);
    if (await accepts(socket)) {
      return socket;
    }
    await this.#end();
    return undefined;
  }

  /** Ends the process. One that is ending by itself gets time to report the reason to its clients. */
  async #end(): Promise<void> {
    const child = this.#process;
    if (child !== undefined && !hasExited(child)) {
      child.kill("SIGTERM");
      const limit = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
      await untilExit(child);
      clearTimeout(limit);
    }
  }

  #started(usesWhatIsThere: boolean): Promise<string> {
    if (this.#starting !== undefined) {
      return this.#starting;
    }
    const starting = this.#start(usesWhatIsThere);
    this.#starting = starting;
    starting.catch(() => {
      if (this.#starting === starting) {
        this.#starting = undefined; // Another one may have begun when the process has ended.
      }
    });
    return starting;
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
    const { backendAddress, builder, insecureRegistries, metricsAddr, runDir } = this.#config;
    const isOnSocket = backendAddress.startsWith("unix://");
    const backend = isOnSocket ? backendAddress : `unix://${portSocketOf(runDir)}`;
    const flags = ["--backend-address", backend, "--listen", socket, "--state-dir", this.#stateDir];
    flags.push("--cache-size", String(builder.cacheSize));
    flags.push("--context-size", String(builder.contextSize));
    flags.push("--memory", String(builder.memory));
    flags.push("--insecure-registries", insecureRegistries.join(","));
    if (metricsAddr !== undefined) {
      flags.push("--metrics");
    }
    // A builder left over from before, still ending, would take new requests down with it.
    await rm(socket, { force: true });
    await mkdir(this.#stateDir, { recursive: true, mode: 0o700 });
    await writeFile(this.#mark, "");
    this.#refuseAtTheEnd();
    this.#pauses.started();
    // End of file on this pipe tells the builder that this process has ended.
    const child = spawn(this.#files.program, ["--supervised", ...flags], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    let failure: Error | undefined;
    const onEnd = (): void => {
      this.#starting = undefined;
      if (!this.#stopping) {
        const delayMs = this.#pauses.crashed();
        this.#logger.error(
          { reason: failure?.message ?? endOf(child), delayMs },
          "the builder ended unexpectedly, starting it again",
        );
        this.#startLater(delayMs);
      }
    };
    child.once("exit", onEnd);
    child.on("error", (error) => {
      this.#logger.error({ err: error }, "the builder");
      if (child.pid === undefined) {
        failure = error;
        onEnd(); // No "exit" follows.
      }
    });
    this.#log.follow(child.stderr);
    child.stdin?.on("error", () => {});
    this.#process = child;
    if (child.pid === undefined) {
      await nextTurn(); // Its "error" is emitted meanwhile.
      throw systemError(`the builder cannot be started: ${failure?.message}`, failure);
    }
    const limit = performance.now() + startLimitMs;
    while (!(await accepts(socket))) {
      if (hasExited(child)) {
        throw systemError("the builder did not start: see its line in the log");
      }
      if (performance.now() > limit) {
        child.kill("SIGKILL");
        await untilExit(child);
        throw systemError(`the builder did not serve within ${startLimitMs / 1000} seconds`);
      }
      await delay(pollMs);
    }
    return socket;
  }

  #refuseAtTheEnd(): void {
    if (this.#stopping) {
      throw systemError("the builder is not started: sockerless ends");
    }
  }

  /** Starts the builder after a delay, unless it is running by then. */
  #startLater(delayMs: number): void {
    clearTimeout(this.#restarting);
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
      for (const onCompile of this.#onCompile) {
        onCompile();
      }
      if ((await this.#runCompiler()) !== 0) {
        throw systemError("the builder cannot be compiled: see the log of sockerless");
      }
    } finally {
      this.#isCompiling = false;
    }
  }

  async #runCompiler(...flags: string[]): Promise<number> {
    this.#refuseAtTheEnd();
    // End of file on its standard input ends it, with all that it has started: its process group.
    const child = spawn(process.execPath, [this.#files.compiler, "--supervised", ...flags], {
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    const ended = once(child, "exit"); // It rejects if the process cannot be started, without pipes then.
    child.stdin?.on("error", () => {});
    this.#log.follow(child.stdout);
    this.#log.follow(child.stderr);
    this.#compiler = child;
    const [code] = (await ended) as [number | null];
    return code ?? 1;
  }
}

/** Errors of a socket that no process listens on. Others, as of a full queue or no file descriptor left, do not say so. */
const refusals = new Set<string | undefined>(["ENOENT", "ECONNREFUSED"]);

/** Whether a process accepts connections on a socket. */
function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.once("connect", () => {
      connection.destroy();
      resolve(true);
    });
    connection.once("error", (error) => resolve(!refusals.has(errnoOf(error))));
  });
}
