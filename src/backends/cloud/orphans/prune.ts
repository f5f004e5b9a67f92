/** Reports orphans in a cloud, which no backend's state knows, and removes them on request. */
import { type Clock, systemClock } from "../../../common/clock.ts";
import type { CommonConfig } from "../../../common/config/load.ts";
import { conflict } from "../../../common/errors.ts";
import { type Logger, processLogger } from "../../../common/logger.ts";
import { openState, type State } from "../../state/state.ts";
import type { AgentFinder } from "../contract/agent-finder.ts";
import { type CloudAuthority, createAuthority } from "../authority/authority.ts";
import { readAuthority } from "../authority/authority-file.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";
import { instanceOf } from "../authority/instance.ts";
import type { Known, Orphan } from "./orphan.ts";
import { orphanedTasks, runningTasks } from "./tasks.ts";

/** Options of a prune. */
export interface PruneRequest {
  /** Whether to remove orphans, or only report them. */
  readonly remove: boolean;
  /** Another, permanently lost instance to remove orphans of; undefined for this one. */
  readonly instance: string | undefined;
  /** Receives each line of the report. */
  readonly report: (line: string) => void;
}

/** A cloud to search for orphans. */
export interface PrunedCloud {
  /** The tasks of an instance. */
  tasksOf(instance: string): CloudTasks;
  readonly finder: Pick<AgentFinder, "meet">;
  /** Orphans other than tasks, in a possible order of removal. */
  orphans(known: Known): Promise<readonly Orphan[]>;
  close(): void;
}

/** Dependencies of the search. */
export interface PruneSurroundings {
  readonly authority: CloudAuthority;
  /** This instance's name. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Reports, and on request removes, what is in the cloud but not in this instance's state. The backend must not be
 * running, but must have run before, since its start adopts what it can.
 *
 * @param agentCa as configured
 * @throws conflict: the backend runs, has never run on this state, or the other instance's containers run; CloudError
 */
export async function pruneCloud(
  config: CommonConfig,
  agentCa: string,
  cloudOf: (surroundings: PruneSurroundings) => PrunedCloud,
  request: PruneRequest,
): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const clock = systemClock;
  const state = await openState({ directory: config.stateDir, clock });
  resources.defer(() => state.close());
  if (state.networks.size === 0) {
    throw conflict(
      `no backend has run on the state in ${config.stateDir}: start one first, so that it takes over what is its own`,
    );
  }
  const authority = await createAuthority(await readAuthority(agentCa), clock);
  const own = instanceOf(authority);
  const cloud = cloudOf({ authority, instance: own, clock, logger: processLogger(config, "prune") });
  resources.defer(() => cloud.close());

  const instance = request.instance ?? own;
  if (instance !== own) {
    const running = await runningTasks(cloud.tasksOf(instance));
    if (running.length > 0) {
      throw conflict(`${running.length} containers of instance ${instance} run: it is not lost`);
    }
  }
  const known = knownOf(state);
  // Tasks first, as their resources can only be removed after them.
  const tasks = await orphanedTasks(cloud.tasksOf(own), cloud.finder, own, known);
  for (const orphan of [...tasks, ...(await cloud.orphans(known))]) {
    await treat(orphan, orphan.instance === instance, request);
  }
}

async function treat(orphan: Orphan, isWanted: boolean, { remove, report }: PruneRequest): Promise<void> {
  const about = `${orphan.kind} ${orphan.id} (${orphan.purpose}, instance ${orphan.instance || "unknown"})`;
  if (!isWanted) {
    report(`left: ${about}`);
  } else if (!remove) {
    report(`found: ${about}`);
  } else {
    const reason = await orphan.remove();
    report(reason === undefined ? `removed: ${about}` : `not removed: ${about}: ${reason}`);
  }
}

function knownOf(state: State): Known {
  const volumes = new Set([...state.volumes.values()].map(({ driverReference }) => driverReference));
  return {
    hasVolume: (reference) => volumes.has(reference),
    hasNetwork: (networkId) => state.networks.has(networkId),
    hasContainer: (containerId) => state.containers.has(containerId),
    hasImage: (imageId) => state.images.has(imageId),
  };
}
