/** `sockerless serve --detach` of a test's own, and what there is of its processes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";
import { recordInstance } from "./made.ts";
import { commandLineOf, isAlive, processIds, readOrNothing } from "./processes.ts";
import { untilTrue } from "./until.ts";

const program = join(checkout, "bin/sockerless");

/** Variable of the environment by which all that it has begun is known, whatever it became. */
const markVariable = "SKL_BACKGROUND";

/** A directory for a daemon in the background, and the commands on it. */
export class BackgroundDaemon implements AsyncDisposable {
  readonly directory: string;
  readonly stateDir: string;
  readonly log: string;
  readonly host: string;

  private constructor(directory: string) {
    this.directory = directory;
    this.stateDir = join(directory, "state");
    this.log = join(this.stateDir, "sockerless.log");
    this.host = `unix://${join(directory, "docker.sock")}`;
  }

  /** A directory in which nothing runs yet. */
  static async create(): Promise<BackgroundDaemon> {
    const daemon = new BackgroundDaemon(await mkdtemp(join(tmpdir(), "skl-")));
    recordInstance(daemon.stateDir);
    return daemon;
  }

  /** Command line that starts it. */
  command(...args: string[]): [program: string, ...args: string[]] {
    const dirs = ["--state-dir", this.stateDir, "--run-dir", join(this.directory, "run")];
    return [program, "serve", "--detach", "--host", this.host, ...dirs, ...args];
  }

  /** The environment of what begins it. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, [markVariable]: this.directory };
  }

  /** Starts it, and waits for the end of the command and of all that has its output open. */
  start(...args: string[]): Promise<CommandResult> {
    const [command, ...rest] = this.command(...args);
    return runCommand(command, rest, { env: this.env });
  }

  /** Runs `sockerless stop` on its state directory. */
  stop(options: CommandOptions = {}): Promise<CommandResult> {
    return runCommand(program, ["stop", "--state-dir", this.stateDir], options);
  }

  /** Runs the docker CLI. */
  docker(...args: string[]): Promise<CommandResult> {
    return runCommand("docker", args, {
      env: { ...process.env, DOCKER_HOST: this.host, DOCKER_CONFIG: join(this.directory, "docker-config") },
    });
  }

  /** Process IDs and command lines of all that was begun for it and is there, shims included. */
  processes(): Map<number, string> {
    const mark = `${markVariable}=${this.directory}`;
    const marked = processIds().filter(
      (pid) => readOrNothing(`/proc/${pid}/environ`).split("\0").includes(mark) && isAlive(pid),
    );
    return new Map(marked.map((pid) => [pid, commandLineOf(pid)]));
  }

  /** Process ID of the daemon, once it has its title; throws where there is none within two minutes. */
  async pid(): Promise<number> {
    let pid: number | undefined;
    await untilTrue(() => {
      pid = [...this.processes()].find(([, title]) => /^sockerless( \(ending\))?$/.test(title))?.[0];
      return pid !== undefined;
    });
    return pid ?? 0;
  }

  /** Ends what runs, whatever became of it, and deletes its directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const pid of this.processes().keys()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {} // It has ended meanwhile.
    }
    await untilTrue(() => this.processes().size === 0);
    await rm(this.directory, { recursive: true, force: true });
  }
}
