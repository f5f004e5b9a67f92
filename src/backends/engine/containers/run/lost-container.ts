/** Containers whose agents are lost: determines how they ended, as far as possible. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { AgentAddress } from "../../../../agent-client/address.ts";
import { messageOf } from "../../../../common/errors.ts";
import type { FoundWorkload } from "../../../driver/workloads.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import type { Exit } from "../decisions/life/transitions.ts";
import { timestampOfNs } from "../../../model/records.ts";
import { containerExited } from "./container-exit.ts";

/** The exit code of a container whose agent is gone and left no record. */
const lostExitCode = 255;

/** A run of a later start than the state knows, as after the restore of a backup. */
export interface LaterRun extends Pick<FoundWorkload, "generation" | "address"> {
  readonly agent: AgentAddress;
}

/**
 * Records the end of a container whose agent cannot be reached, from the driver's durable record if there is one. On a
 * remote platform waiters get an error with the exit code, since output may be missing.
 *
 * @param goOn called instead with a run of a later start, if there is one
 * @returns whether the watch is over; false if the driver cannot be queried, or reports the agent as alive
 */
export async function buryLost(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint,
  goOn?: (later: LaterRun) => Promise<void>,
): Promise<boolean> {
  const { link } = live;
  let found: FoundWorkload | undefined;
  try {
    found = await context.driver.workloads.find(live.id);
  } catch (error) {
    context.logger.error(
      { err: error, container: live.id },
      `cannot ask for the end of a container: ${messageOf(error)}`,
    );
    return false;
  }
  if (found !== undefined && found.generation !== generation) {
    const { agent } = found;
    if (goOn !== undefined && agent !== undefined && found.generation > generation) {
      await goOn({ ...found, agent });
      return true;
    }
    found = undefined;
  }
  if (found?.agent !== undefined) {
    context.logger.warn({ container: live.id }, "the agent of a container cannot be reached, and may live");
    return false;
  }
  context.logger.warn({ container: live.id }, "the agent of a container is gone");
  const exit = exitOfWorkload(context, found);
  const wasHeard = link?.generation === generation && link.wasHeard; // Its streams were lost with it.
  const isCut = wasHeard && context.driver.site.kind === "remote";
  const told =
    isCut && exit.error === ""
      ? { ...exit, error: "the container's agent was lost: its output may not be whole" }
      : exit;
  await containerExited(context, live, generation, told, found?.execExits ?? new Map(), link);
  return true;
}

/** A run as the driver finds it; undefined if it does not. */
export async function foundRun(
  { driver }: EngineContext,
  containerId: string,
  generation: bigint,
): Promise<FoundWorkload | undefined> {
  const found = await driver.workloads.find(containerId);
  return found?.generation === generation ? found : undefined;
}

/** The end of a run from the driver's record; exit code 255 without a record. */
export function exitOfWorkload(context: EngineContext, found: FoundWorkload | undefined): Exit {
  return found?.exit === undefined
    ? {
        code: lostExitCode,
        oomKilled: false,
        finishedAt: timestampOfNs(context.clock.nowNs()),
        error: "the container's agent was lost",
      }
    : {
        code: found.exit.code,
        oomKilled: found.exit.oomKilled,
        finishedAt: timestampFromMs(found.exit.finishedAt.getTime()),
        error: found.exit.error ?? "",
      };
}
