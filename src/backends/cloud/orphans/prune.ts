/** Orphans of a cloud, which no backend's state knows: reported, and removed on request. */
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

/** Choices of one prune. */
export interface PruneRequest {
  /** Remove what is found; else it is only told. */
  readonly remove: boolean;
  /** Another instance, lost for good, whose things are removed instead of this one's; undefined: this one. */
  readonly instance: string | undefined;
  /** Takes each line of the report. */
  readonly report: (line: string) => void;
}

/** A cloud in which orphans are looked for. */
export interface PrunedCloud {
  /** The tasks of an instance. */
  tasksOf(instance: string): CloudTasks;
  readonly finder: Pick<AgentFinder, "meet">;
  /** Orphans other than tasks, in the order in which they can be removed. */
  orphans(known: Known): Promise<readonly Orphan[]>;
  close(): void;
}

/** Parts of the process that a cloud is searched with. */
export interface PruneSurroundings {
  readonly authority: CloudAuthority;
  /** This instance. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Tells, and removes where that is asked for, what is in the cloud and not in the state of this instance. Its backend must
 * not run, and must have run: what of this instance's can be adopted is adopted by its start.
 *
 * @param agentCa as the configuration has it
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
  // Tasks first: what they use can be removed only after them.
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
