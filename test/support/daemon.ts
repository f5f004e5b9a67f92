/** A sockerless of a test's own: its processes, its sockets, its state, all gone at the end. */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { busyboxArchiveFile } from "./images.ts";
import { recordInstance } from "./made.ts";
import { assertWithinMachine, hasCloud, withinMachine } from "./within-machine.ts";

/** The checkout: this file runs as dist/test/support/daemon.js. */
export const checkout = fileURLToPath(new URL("../../..", import.meta.url));

/** Far longer than it takes, on a machine that does much other work, too. */
const readyLimitMs = 300_000;
const endLimitMs = 120_000;

export interface DaemonOptions {
  /** Further arguments of `sockerless serve`. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Directory of its state; unless said, one that {@link Daemon.stop} removes. */
  readonly stateDir?: string;
  /** A descriptor of this process that it inherits, as number {@link inheritedAs}. */
  readonly inherits?: number;
  /** Directory in which it is started; unless said, this process's. */
  readonly cwd?: string;
  /** A command that runs it elsewhere, such as in a network namespace. */
  readonly within?: readonly string[];
  /** The program; unless said, the checkout's. */
  readonly program?: string;
}

/** High and alone, as shells and service managers leave some: Node itself marks only the first ones close-on-exec. */
const inheritedAs = 200;

/** A running `sockerless serve` on the local backend. */
export class Daemon {
  /** Directory of everything that it keeps; removed by {@link stop}. */
  readonly directory: string;
  readonly socket: string;
  readonly backendSocket: string;
  readonly stateDir: string;
  readonly runDir: string;
  readonly #options: DaemonOptions;
  #process: ChildProcess | undefined;
  #output = "";
  #program: string;

  private constructor(directory: string, options: DaemonOptions) {
    this.#program = options.program ?? join(checkout, "bin/sockerless");
    this.directory = directory;
    this.socket = join(directory, "docker.sock");
    this.backendSocket = join(directory, "backend.sock");
    this.stateDir = options.stateDir ?? join(directory, "state");
    this.runDir = join(directory, "run");
    this.#options = options;
  }

  /** Starts one with empty state and waits until it serves. */
  static async start(options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = new Daemon(await mkdtemp(join(tmpdir(), "skl-")), options);
    try {
      await daemon.launch();
    } catch (error) {
      await rm(daemon.directory, { recursive: true, force: true });
      throw error;
    }
    return daemon;
  }

  /** Starts one that has busybox. */
  static async startWithBusybox(options?: DaemonOptions): Promise<Daemon> {
    const daemon = await Daemon.start(options);
    try {
      await daemon.ok("load", "--input", await busyboxArchiveFile());
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  /** Value for `DOCKER_HOST`. */
  get host(): string {
    return `unix://${this.socket}`;
  }

  /** Process ID of the supervisor, whose descendants are all of its processes but the shims. */
  get pid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined) {
      throw new Error("the daemon does not run");
    }
    return pid;
  }

  /** Everything that its processes have printed. */
  get output(): string {
    return this.#output;
  }

  /**
   * Starts the processes on the state that is there and waits until they serve.
   *
   * @param program another version than the last one
   */
  async launch(program = this.#program): Promise<void> {
    this.#program = program;
    recordInstance(this.stateDir);
    // As users start it: what it gives to Node counts too.
    const [first = "", ...args] = [...(this.#options.within ?? []), program];
    const child = spawn(
      first,
      [
        ...args,
        "serve",
        "--host",
        this.host,
        "--listen",
        `unix://${this.backendSocket}`,
        "--state-dir",
        this.stateDir,
        "--run-dir",
        this.runDir,
        ...(this.#options.args ?? []),
      ],
      { stdio: this.#stdio(), cwd: this.#options.cwd, env: this.#env() },
    );
    const { stdout, stderr } = child;
    if (stdout === null || stderr === null) {
      throw new Error("its output is not piped");
    }
    this.#process = child;
    const ready = Promise.withResolvers<void>();
    const before = this.#output.length; // Output of an earlier process that was killed.
    const read = (chunk: Buffer): void => {
      this.#output += chunk.toString();
      if (this.#output.includes("DOCKER_HOST=", before)) {
        ready.resolve();
      }
    };
    stdout.on("data", read);
    stderr.on("data", read);
    // Not "exit", which may come before the last of what it printed.
    child.once("close", (code) => ready.reject(new Error(`serve ended with ${code}:\n${this.#output}`)));
    const limit = setTimeout(
      () => ready.reject(new Error(`serve was not ready after ${readyLimitMs} ms:\n${this.#output}`)),
      readyLimitMs,
    );
    try {
      await ready.promise;
    } finally {
      clearTimeout(limit);
    }
  }

  /** A cloud's backend has the addresses of a real one for whatever is not configured. */
  #env(): NodeJS.ProcessEnv {
    const env = { ...process.env, ...this.#options.env };
    const isOfCloud = ["ecs", "aca"].some((cloud) => this.#options.args?.includes(cloud) === true);
    return isOfCloud || hasCloud(env) ? withinMachine(env) : env;
  }

  #stdio(): StdioOptions {
    const { inherits } = this.#options;
    const own: StdioOptions = ["ignore", "pipe", "pipe"];
    return inherits === undefined
      ? own
      : [...own, ...Array<"ignore">(inheritedAs - own.length).fill("ignore"), inherits];
  }

  /**
   * Ends the processes as a user's Ctrl-C does; containers go on.
   *
   * @throws when they do not end by themselves
   */
  async shutDown(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      return;
    }
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    const limit = setTimeout(() => child.kill("SIGKILL"), endLimitMs);
    await ended;
    clearTimeout(limit);
    if (child.signalCode === "SIGKILL") {
      throw new Error(`serve did not end within ${endLimitMs} ms:\n${this.#output}`);
    }
    assertWithinMachine(this.#output);
    this.#output = "";
  }

  /** Removes every container, ends the processes, and deletes the state. */
  async stop(): Promise<void> {
    const { text } = await this.docker("ps", "--all", "--quiet");
    const containers = text.split("\n").filter((id) => id !== "");
    if (containers.length > 0) {
      await this.docker("rm", "--force", "--volumes", ...containers);
    }
    await this.shutDown();
    await rm(this.directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Environment in which Docker clients find this daemon and nothing of the user's. */
  get clientEnv(): NodeJS.ProcessEnv {
    const { DOCKER_CONTEXT: _context, DOCKER_TLS_VERIFY: _tls, ...rest } = process.env;
    return {
      ...rest,
      DOCKER_HOST: this.host,
      DOCKER_CONFIG: join(this.directory, "docker-config"),
      XDG_RUNTIME_DIR: this.directory, // compose locks a project's watch there, whatever daemon has the project
    };
  }

  /** Runs the real docker CLI with nothing on standard input. */
  docker(...args: string[]): Promise<CommandResult> {
    return this.dockerWith({}, ...args);
  }

  /** Runs the real docker CLI. */
  dockerWith(options: CommandOptions, ...args: string[]): Promise<CommandResult> {
    return runCommand("docker", args, { env: this.clientEnv, ...options });
  }

  /** Runs the docker CLI and answers its output; throws where it fails. */
  async ok(...args: string[]): Promise<string> {
    const result = await this.docker(...args);
    if (result.code !== 0) {
      throw new Error(
        `docker ${args.join(" ")} ended with ${result.code}: ${result.errorText}\n${this.#output}`,
      );
    }
    return result.text;
  }
}
