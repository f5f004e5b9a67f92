import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { messageOf, systemError, unavailable } from "../../common/errors.ts";
import type { HelloResponse } from "../../gen/sockerless/host/v1/host_pb.ts";
import { createHostClient, fromHostError, type HostClient } from "./host-client.ts";

/** How long the host process may take to answer its first call. */
const readyTimeoutMs = 10_000;
const readyPollMs = 5;
/** Waits between restarts of a host process that keeps dying. */
const restartDelaysMs = [0, 100, 500, 2_000, 5_000];
/** A host process that lived this long starts the back-off anew. */
const stableMs = 60_000;

/** How long a host process that died is waited for by what has to be done: as long as it may take to be started again. */
const awayLimitMs = 30_000;
const awayPollMs = 50;
/** What a call ends with whose host process is gone. */
const awayCodes: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.Canceled]);

export interface HostProcessOptions {
  /** The agent's executable. */
  readonly agentPath: string;
  readonly stateDir: string;
  readonly runDir: string;
  /** OCI runtime by name or path; undefined: the first that works. */
  readonly runtime: string | undefined;
  readonly logger: Logger;
}

/**
 * The one process of the machine that does what needs privilege
 * (`sockerless-agent host`). It ends when this process ends, however that
 * happens: its stdin is a pipe from here. Containers do not notice either end.
 *
 * It is spawned once, early, while this process is small; that it is spawned
 * again happens only when it died.
 */
export class HostProcess {
  readonly #options: HostProcessOptions;
  readonly #host: HostClient;
  #child: ChildProcess | undefined;
  #closing = false;
  #lastWords = "";

  private constructor(options: HostProcessOptions) {
    this.#options = options;
    this.#host = createHostClient(`${options.runDir}/host.sock`);
  }

  /**
   * Starts the host process and waits for it.
   *
   * @throws SockerlessError `system` with the process's own words when it cannot run here
   */
  static async start(options: HostProcessOptions): Promise<{ host: HostProcess; hello: HelloResponse }> {
    const host = new HostProcess(options);
    const child = host.#spawn();
    const hello = await host.#untilReady(child);
    host.#keepAlive(child, 0);
    return { host, hello };
  }

  get stateDir(): string {
    return this.#options.stateDir;
  }

  get client(): HostClient["client"] {
    return this.#host.client;
  }

  /**
   * Makes a call that may be repeated, and repeats it when the host process died in it or is not there: another one is
   * started, and nothing is left half made or half cleared away.
   *
   * @throws what the call throws; what its last attempt throws where no host process answers in time
   */
  async persist<T>(call: (client: HostClient["client"]) => Promise<T>): Promise<T> {
    const deadline = performance.now() + awayLimitMs;
    for (;;) {
      try {
        return await call(this.client);
      } catch (error) {
        const isAway = error instanceof ConnectError && awayCodes.has(error.code);
        if (!isAway || this.#closing || performance.now() > deadline) {
          throw error;
        }
        await delay(awayPollMs);
      }
    }
  }

  /** Ends the host process; containers go on. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#host.close();
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.stdin?.end();
      await ended;
    }
  }

  #spawn(): ChildProcess {
    const { agentPath, stateDir, runDir, runtime } = this.#options;
    const args = ["host", "--state-dir", stateDir, "--run-dir", runDir, "--agent-path", agentPath];
    if (runtime !== undefined) {
      args.push("--runtime", runtime);
    }
    // In a session of its own: Ctrl-C at a terminal is for us, who still need the host process to end in good order.
    const child = spawn(agentPath, args, { stdio: ["pipe", "ignore", "pipe"], detached: true });
    this.#child = child;
    child.stdin.on("error", () => {}); // it died: the exit says so
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text: string) => {
      this.#lastWords = (this.#lastWords + text).slice(-2_000);
      this.#options.logger.warn({ hostProcess: text.trimEnd() }, "the host process says");
    });
    return child;
  }

  async #untilReady(child: ChildProcess): Promise<HelloResponse> {
    const ended = new AbortController();
    child.once("error", (error) => ended.abort(error));
    child.once("exit", (code, signal) => ended.abort(new Error(`it ended with ${signal ?? `code ${code}`}`)));
    const deadline = performance.now() + readyTimeoutMs;
    let last: unknown;
    while (performance.now() < deadline) {
      if (ended.signal.aborted) {
        throw systemError(
          `the host process ${this.#options.agentPath} cannot run: ${messageOf(ended.signal.reason)}: ${this.#lastWords.trim()}`,
          ended.signal.reason,
        );
      }
      try {
        return await this.#host.client.hello({});
      } catch (error) {
        if (error instanceof ConnectError && error.code !== Code.Unavailable) {
          throw fromHostError(error); // it answered: no runtime that works, say
        }
        last = error;
        await delay(readyPollMs);
      }
    }
    throw unavailable(`the host process did not answer within ${readyTimeoutMs / 1000} s`, last);
  }

  /** Starts another one when this one dies. */
  #keepAlive(child: ChildProcess, failures: number): void {
    const born = performance.now();
    const died = async (code: number | null, signal: NodeJS.Signals | null): Promise<void> => {
      if (this.#closing) {
        return;
      }
      const again = performance.now() - born > stableMs ? 0 : failures;
      const wait = restartDelaysMs[Math.min(again, restartDelaysMs.length - 1)];
      this.#options.logger.error({ code, signal, waitMs: wait }, "the host process died, starting another");
      await delay(wait);
      if (!this.#closing) {
        this.#keepAlive(this.#spawn(), again + 1);
      }
    };
    child.once("exit", (code, signal) => void died(code, signal));
    child.on("error", (error) => this.#options.logger.error({ error }, "the host process cannot be started"));
  }
}
