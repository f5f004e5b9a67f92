import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { endOf, RestartPauses, untilExit } from "../../common/child-processes.ts";
import { messageOf, systemError, unavailable } from "../../common/errors.ts";
import { ProcessLog } from "../../common/process-log.ts";
import type { HelloResponse } from "../../gen/sockerless/host/v1/host_pb.ts";
import { createHostClient, fromHostError, type HostClient } from "./host-client.ts";
import { isAway } from "./repeated-calls.ts";

/** Time limit for its first answer. This process may read a large state meanwhile, and hears nothing for seconds. */
const readyTimeoutMs = 60_000;

export interface HostProcessOptions {
  /** The agent's executable. */
  readonly agentPath: string;
  readonly stateDir: string;
  readonly runDir: string;
  /** OCI runtime by name or path; undefined for the first that works. */
  readonly runtime: string | undefined;
  /** Default size of a block volume, in bytes. */
  readonly blockVolumeSize: number;
  readonly logger: Logger;
}

/**
 * The machine's single privileged process (`sockerless-agent host`). It ends with this process, however that ends: its
 * stdin is a pipe from here. Containers are not affected when either of them ends.
 *
 * It is spawned once, early, while this process is small, and again only if it has died.
 */
export class HostProcess {
  readonly #options: HostProcessOptions;
  readonly #host: HostClient;
  readonly #log: ProcessLog;
  readonly #pauses = new RestartPauses();
  #child: ChildProcess | undefined;
  #closing = false;

  private constructor(options: HostProcessOptions) {
    this.#options = options;
    this.#log = new ProcessLog(options.logger, "host");
    this.#host = createHostClient(`${options.runDir}/host.sock`);
  }

  /**
   * Starts the host process and waits until it answers.
   *
   * @throws SockerlessError `system` with the process's own message if it cannot run here
   */
  static async start(options: HostProcessOptions): Promise<{ host: HostProcess; hello: HelloResponse }> {
    const host = new HostProcess(options);
    const child = host.#spawn();
    const hello = await host.#untilReady(child);
    host.#keepAlive(child);
    return { host, hello };
  }

  get stateDir(): string {
    return this.#options.stateDir;
  }

  get logger(): Logger {
    return this.#options.logger;
  }

  get client(): HostClient["client"] {
    return this.#host.client;
  }

  /** Ends the host process; containers keep running. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#host.close();
    const child = this.#child;
    if (child !== undefined) {
      child.stdin?.end();
      await untilExit(child);
    }
  }

  #spawn(): ChildProcess {
    const { agentPath, stateDir, runDir, runtime, blockVolumeSize } = this.#options;
    const args = ["host", "--state-dir", stateDir, "--run-dir", runDir, "--agent-path", agentPath];
    args.push("--block-volume-size", String(blockVolumeSize));
    if (runtime !== undefined) {
      args.push("--runtime", runtime);
    }
    this.#pauses.started();
    // In its own session it does not get a terminal's Ctrl-C: this process still needs it for a clean shutdown.
    const child = spawn(agentPath, args, { stdio: ["pipe", "ignore", "pipe"], detached: true });
    this.#child = child;
    if (child.pid !== undefined) {
      child.stdin.on("error", () => {}); // It has died: "exit" follows.
      this.#log.follow(child.stderr);
    } // Else it could not be spawned, perhaps without streams: "error" follows.
    return child;
  }

  async #untilReady(child: ChildProcess): Promise<HelloResponse> {
    const ended = new AbortController();
    child.once("error", (error) => ended.abort(error));
    child.once("exit", () => ended.abort(new Error(`it ended with ${endOf(child)}`)));
    try {
      return await this.#host.client.hello({}, { signal: ended.signal, timeoutMs: readyTimeoutMs });
    } catch (error) {
      if (ended.signal.aborted) {
        throw systemError(
          `the host process ${this.#options.agentPath} cannot run: ${messageOf(ended.signal.reason)}: ${this.#log.lastLines}`,
          ended.signal.reason,
        );
      }
      const isSilent = error instanceof ConnectError && error.code === Code.DeadlineExceeded;
      if (!isAway(error) && !isSilent) {
        throw fromHostError(error); // It has answered, for example that no runtime works.
      }
      throw unavailable(`the host process did not answer within ${readyTimeoutMs / 1000} s`, error);
    }
  }

  /** Starts a new host process when this one dies. */
  #keepAlive(child: ChildProcess): void {
    const startAnother = async (): Promise<void> => {
      if (this.#closing) {
        return;
      }
      const waitMs = this.#pauses.crashed();
      this.#options.logger.error(
        { code: child.exitCode, signal: child.signalCode, waitMs },
        "the host process died, starting another",
      );
      await delay(waitMs);
      if (this.#closing) {
        return;
      }
      try {
        this.#keepAlive(this.#spawn());
      } catch (error) {
        // Node throws some errors, and emits others.
        this.#options.logger.error({ error }, "the host process cannot be started");
        await startAnother();
      }
    };
    const ended = once(child, "exit").catch((error: unknown) => {
      this.#options.logger.error({ error }, "the host process cannot be started");
    });
    void ended.then(startAnother);
  }
}
