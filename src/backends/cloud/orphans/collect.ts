/** Reports orphans in a cloud, which no backend's state knows, and removes them on request. */
import { type Clock, systemClock } from "../../../common/clock.ts";
import type { CommonConfig } from "../../../common/config/load.ts";
import { conflict } from "../../../common/errors.ts";
import { type Logger, processLogger } from "../../../common/logger.ts";
import type { Remnant } from "../../state/leftovers.ts";
import type { State } from "../../state/state.ts";
import type { AgentFinder } from "../contract/agent-finder.ts";
import { type CloudAuthority, createAuthority } from "../authority/authority.ts";
import { readAuthority } from "../authority/authority-file.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";
import { instanceOf } from "../authority/instance.ts";
import type { Known, Orphan } from "./orphan.ts";
import { orphanedTasks, runningTasks } from "./tasks.ts";

/** A search, and what becomes of what is found. */
export interface CollectRequest {
  /** The state of a backend that does not run. */
  readonly state: State;
  /** Whether to remove orphans, or only report them. */
  readonly remove: boolean;
  /** Another, permanently lost instance to remove orphans of; undefined for this one. */
  readonly instance: string | undefined;
  readonly report: (remnant: Remnant) => void;
}

/** A cloud to search for orphans. */
export interface SearchedCloud {
  /** The tasks of an instance. */
  tasksOf(instance: string): CloudTasks;
  readonly finder: Pick<AgentFinder, "meet">;
  /** Orphans other than tasks, in a possible order of removal. */
  orphans(known: Known): Promise<readonly Orphan[]>;
  close(): void;
}

/** Dependencies of the search. */
export interface SearchSurroundings {
  readonly authority: CloudAuthority;
  /** This instance's name. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Reports, and on request removes, what is in the cloud but not in this instance's state. The backend must have run
 * before, since its start adopts what it can.
 *
 * @param agentCa as configured
 * @throws conflict: no backend has run on this state, it may have lost records, or the other instance's containers run;
 *   CloudError
 */
export async function collectOrphans(
  config: CommonConfig,
  agentCa: string,
  cloudOf: (surroundings: SearchSurroundings) => SearchedCloud,
  request: CollectRequest,
): Promise<void> {
  const clock = systemClock;
  const { state } = request;
  if (state.networks.size === 0) {
    throw conflict(
      `no backend has run on the state in ${config.stateDir}: start one first, so that it takes over what is its own`,
    );
  }
  if (request.remove && request.instance === undefined && state.losses.length > 0) {
    throw conflict(
      `the state in ${config.stateDir} may have lost records (${state.losses.join(", ")}): start the backend, and \`docker container prune\` once all is there`,
    );
  }
  const authority = await createAuthority(await readAuthority(agentCa), clock);
  const own = instanceOf(authority);
  const cloud = cloudOf({ authority, instance: own, clock, logger: processLogger(config, "gc") });
  try {
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
      request.report(await treat(orphan, orphan.instance === instance, request.remove));
    }
  } finally {
    cloud.close();
  }
}

async function treat(orphan: Orphan, isWanted: boolean, remove: boolean): Promise<Remnant> {
  const { kind, id, purpose, instance } = orphan;
  const about = { kind, id, purpose, instance: instance || "unknown" };
  if (!isWanted) {
    return { outcome: "left", ...about };
  }
  if (!remove) {
    return { outcome: "found", ...about };
  }
  const reason = await orphan.remove();
  return reason === undefined
    ? { outcome: "removed", ...about }
    : { outcome: "not removed", ...about, reason };
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
