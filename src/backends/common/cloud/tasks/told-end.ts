/** The end of a run as its agent has left it in the cloud's log, for when neither agent nor task is there any more. */
import { messageOf } from "../../../../common/errors.ts";
import type { TaskRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { isRefusal } from "../cloud-error.ts";
import type { FoundExit } from "../../driver.ts";
import { isSeal } from "../seal.ts";
import { unfinishedExit } from "./task-end.ts";
import type { TaskContext } from "./task-context.ts";

/** A line as `agent/init/exit_line.go` writes it, without its mark. */
const line =
  /^(?<told>exit generation=\d+ code=(?<code>\d{1,3}) oom_killed=(?<oom>true|false) platform_stop=(?<stop>true|false) finished_at=(?<at>\S+)) seal=(?<seal>[0-9a-f]{64})$/;

/**
 * Looks for the end of a container's last run.
 *
 * @returns undefined: its agent has left none, or the cloud refuses to show it
 * @throws CloudError: nobody knows whether there is one
 */
export async function toldEnd(
  { log, exitKey, clock, logger, abandoned }: TaskContext,
  { containerId, generation }: TaskRecord,
): Promise<FoundExit | undefined> {
  const key = exitKey(containerId, generation);
  try {
    for await (const text of log.agentLines(containerId, abandoned)) {
      const exit = exitOfLine(key, text, clock.nowMs());
      if (exit !== undefined) {
        return exit;
      }
    }
  } catch (error) {
    if (!isRefusal(error)) {
      throw error;
    }
    logger.warn(
      { container: containerId, err: error },
      `the end of a container cannot be read from the cloud's log: ${messageOf(error)}`,
    );
  }
  return undefined;
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
