/** The end of a run as its agent has left it in the cloud's log, for when neither agent nor task is there any more. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, unavailable } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { after } from "../../../common/timers.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import { isSeal, type Sealer } from "../authority/seal.ts";
import { type CloudLog, LinesLate } from "../contract/cloud-log.ts";
import { SinceWhen } from "./since-when.ts";
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

/** The end of a run, as far as the cloud's log tells it. */
export interface ToldEnd {
  /** Undefined: its agent has left none, or the log is not to be had. */
  readonly exit: FoundExit | undefined;
  /** Why the log is not to be had; empty: it is. */
  readonly untold: string;
}

/** A log that cannot be read for so long, for whatever reason, holds up no end that the cloud itself has told. */
const unreadLimitMs = 60_000;
/** A failure that nobody has met again for so long is forgotten: its run was recorded, or removed. */
const forgottenMs = 10 * 60_000;
/** A look takes a moment: one that hangs is not waited for, since others are listed with it. */
const lookLimitMs = 20_000;

/** Looks for the ends of runs. */
export class ToldEnds {
  readonly #options: ToldEndsOptions;
  /** Runs whose lines cannot be read, by container ID and generation. */
  readonly #unread = new SinceWhen(forgottenMs);
  /** Looks under way, by container ID and generation: each watcher of a container asks for the ends of all. */
  readonly #looks = new Map<string, Promise<ToldEnd>>();

  constructor(options: ToldEndsOptions) {
    this.#options = options;
  }

  /**
   * Looks for the end of a container's last run, which the cloud has told is over.
   *
   * @throws LinesLate, CloudError, unavailable: nobody knows yet whether its agent has left one, for a minute where the log
   *   cannot be read
   */
  of({ containerId, generation }: Pick<TaskRecord, "containerId" | "generation">): Promise<ToldEnd> {
    const run = `${containerId} ${generation}`;
    const underWay = this.#looks.get(run);
    if (underWay !== undefined) {
      return underWay;
    }
    const look = this.#look(run, containerId, generation).finally(() => this.#looks.delete(run));
    this.#looks.set(run, look);
    return look;
  }

  async #look(run: string, containerId: string, generation: bigint): Promise<ToldEnd> {
    const { clock, logger, abandoned } = this.#options;
    const begunMs = clock.nowMs();
    try {
      const exit = await this.#read(containerId, generation);
      this.#unread.ended(run);
      return { exit, untold: "" };
    } catch (error) {
      abandoned.throwIfAborted();
      if (error instanceof LinesLate) {
        this.#unread.ended(run);
        throw error;
      }
      if (clock.nowMs() - this.#unread.met(run, begunMs) < unreadLimitMs) {
        throw error;
      }
      const untold = messageOf(error);
      logger.warn(
        { container: containerId, err: error },
        `the end of a container cannot be read from the cloud's log: ${untold}`,
      );
      return { exit: undefined, untold };
    }
  }

  async #read(containerId: string, generation: bigint): Promise<FoundExit | undefined> {
    const { log, exitKey, clock, abandoned } = this.#options;
    const key = exitKey(containerId, generation);
    const hung = new AbortController();
    const hangs = unavailable(`the cloud's log has not answered within ${lookLimitMs / 1000} s`);
    using _limit = after(clock, lookLimitMs, () => hung.abort(hangs));
    for await (const text of log.agentLines(containerId, AbortSignal.any([abandoned, hung.signal]))) {
      const exit = exitOfLine(key, text, clock.nowMs());
      if (exit !== undefined) {
        return exit;
      }
    }
    return undefined;
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
