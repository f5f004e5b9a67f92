/** The end of a run as its agent has left it in the cloud's log, for when neither agent nor task is there any more. */
import type { Clock } from "../../../../common/clock.ts";
import { messageOf } from "../../../../common/errors.ts";
import type { Logger } from "../../../../common/logger.ts";
import type { TaskRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { isRefusal } from "../cloud-error.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import { isSeal, type Sealer } from "../seal.ts";
import type { CloudLog } from "../stored/stored-service.ts";
import { unfinishedExit } from "./task-end.ts";

/** A line as `agent/init/exit_line.go` writes it, without its mark. */
const line =
  /^(?<told>exit generation=\d+ code=(?<code>\d{1,3}) oom_killed=(?<oom>true|false) platform_stop=(?<stop>true|false) finished_at=(?<at>\S+)) seal=(?<seal>[0-9a-f]{64})$/;

/** Parts of the driver that ends are looked for with. */
export interface ToldEndsOptions {
  readonly log: Pick<CloudLog, "agentLines">;
  readonly exitKey: Sealer["exitKey"];
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends every look. */
  readonly abandoned: AbortSignal;
}

/** A refusal that lasts so long is the cloud's last word: a permission, or a login, may take a moment to hold. */
const refusedLimitMs = 60_000;

/** Looks for the ends of runs. */
export class ToldEnds {
  readonly #options: ToldEndsOptions;
  /** Since when the cloud refuses to show the lines of a run, milliseconds, by container ID and generation. */
  readonly #refusedSinceMs = new Map<string, number>();
  /** Looks under way, by container ID and generation: each watcher of a container asks for the ends of all. */
  readonly #looks = new Map<string, Promise<FoundExit | undefined>>();

  constructor(options: ToldEndsOptions) {
    this.#options = options;
  }

  /**
   * Looks for the end of a container's last run.
   *
   * @returns undefined: its agent has left none, or the cloud has refused for a minute to show it
   * @throws CloudError: nobody knows yet whether there is one
   */
  of({
    containerId,
    generation,
  }: Pick<TaskRecord, "containerId" | "generation">): Promise<FoundExit | undefined> {
    const run = `${containerId} ${generation}`;
    const underWay = this.#looks.get(run);
    if (underWay !== undefined) {
      return underWay;
    }
    const look = this.#look(run, containerId, generation).finally(() => this.#looks.delete(run));
    this.#looks.set(run, look);
    return look;
  }

  async #look(run: string, containerId: string, generation: bigint): Promise<FoundExit | undefined> {
    const { log, exitKey, clock, logger, abandoned } = this.#options;
    const key = exitKey(containerId, generation);
    let exit: FoundExit | undefined;
    try {
      for await (const text of log.agentLines(containerId, abandoned)) {
        exit = exitOfLine(key, text, clock.nowMs());
        if (exit !== undefined) {
          break;
        }
      }
      this.#refusedSinceMs.delete(run);
    } catch (error) {
      if (!isRefusal(error)) {
        this.#refusedSinceMs.delete(run);
        throw error;
      }
      if (!this.#isLastWord(run)) {
        throw error;
      }
      logger.warn(
        { container: containerId, err: error },
        `the end of a container cannot be read from the cloud's log: ${messageOf(error)}`,
      );
    }
    return exit;
  }

  #isLastWord(run: string): boolean {
    const nowMs = this.#options.clock.nowMs();
    const sinceMs = this.#refusedSinceMs.get(run) ?? nowMs;
    this.#refusedSinceMs.set(run, sinceMs);
    return nowMs - sinceMs >= refusedLimitMs;
  }
}

/**
 * Reads a line. The agent is no more trusted with the time than one that answers.
 *
 * @param key of the container's run: lines of another are not sealed with it
 * @returns undefined: it is none, or its seal is not under that key
 */
export function exitOfLine(key: Uint8Array, text: string, nowMs: number): FoundExit | undefined {
  const { told = "", code = "", oom, stop, at = "", seal = "" } = line.exec(text)?.groups ?? {};
  if (!isSeal(Buffer.from(seal, "hex"), key, Buffer.from(told))) {
    return undefined;
  }
  const finishedMs = Date.parse(at);
  const exit = {
    code: Number(code),
    oomKilled: oom === "true",
    finishedAt: new Date(finishedMs >= 0 ? Math.min(finishedMs, nowMs) : nowMs),
  };
  return stop === "true" ? unfinishedExit(exit) : exit;
}
