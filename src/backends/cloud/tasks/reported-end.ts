/** The end of a run as reported by its agent in the cloud's log, for when both agent and task are gone. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, unavailable } from "../../../common/errors.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import type { Logger } from "../../../common/logger.ts";
import { after } from "../../../common/timers.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import { isSeal, type Sealer } from "../authority/seal.ts";
import { type CloudLog, LinesLate } from "../contract/cloud-log.ts";
import { SinceWhen } from "./since-when.ts";
import { unfinishedExit } from "./task-end.ts";

/** A line as written by `agent/init/exit_line.go`, without its mark. */
const line =
  /^(?<told>exit generation=\d+ code=(?<code>\d{1,3}) oom_killed=(?<oom>true|false) platform_stop=(?<stop>true|false) finished_at=(?<at>\S+)) seal=(?<seal>[0-9a-f]{64})$/;

/** Dependencies of the search for reported ends. */
export interface ReportedEndsOptions {
  readonly log: Pick<CloudLog, "agentLines">;
  readonly exitKey: Sealer["exitKey"];
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts every read of the log. */
  readonly abandoned: AbortSignal;
}

/** The end of a run, as far as the cloud's log has it. */
export interface ReportedEnd {
  /** Undefined if its agent has reported none, or the log is unavailable. */
  readonly exit: FoundExit | undefined;
  /** Why the log is unavailable; empty if it is not. */
  readonly untold: string;
}

/** Once a log has been unreadable for this long, for whatever reason, the end according to the cloud is used. */
const unreadLimitMs = 60_000;
/** After this time without a new failure its record is dropped: the run was recorded, or removed. */
const forgottenMs = 10 * 60_000;
/** Time limit of a read: listings do not wait for one that hangs. */
const lookLimitMs = 20_000;

/** Reads reported ends of runs. */
export class ReportedEnds {
  readonly #options: ReportedEndsOptions;
  /** Runs whose lines cannot be read, by container ID and generation. */
  readonly #unread = new SinceWhen(forgottenMs);
  /** Pending reads by container ID and generation, shared by all watchers, each of which asks for the ends of all. */
  readonly #looks = new Map<string, Promise<ReportedEnd>>();

  constructor(options: ReportedEndsOptions) {
    this.#options = options;
  }

  /**
   * Reads the reported end of a container's last run, which has ended according to the cloud.
   *
   * @throws LinesLate, CloudError, unavailable: it is unknown yet whether its agent has reported one; for at most a
   *   minute if the log is unreadable
   */
  of({ containerId, generation }: Pick<TaskRecord, "containerId" | "generation">): Promise<ReportedEnd> {
    const run = `${containerId} ${generation}`;
    return getOrInsert(this.#looks, run, () =>
      this.#look(run, containerId, generation).finally(() => this.#looks.delete(run)),
    );
  }

  async #look(run: string, containerId: string, generation: bigint): Promise<ReportedEnd> {
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
 * Parses a line. Its time is limited like that of an agent's answer, as agents are untrusted.
 *
 * @param key of the container's run: lines of other runs are sealed with other keys
 * @returns undefined if it is not such a line, or its seal is not by that key
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
