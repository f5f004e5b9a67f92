/** Removing all containers that do not run. */
import { fromUnknown } from "../../../../common/errors.ts";
import type { StringList } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { Filters } from "../filters.ts";
import { configOf, isActive, isVisible, nanosecondsOf } from "../records.ts";
import { writableSizes } from "../sizes.ts";
import { untilOf } from "../until-filter.ts";
import { removeContainer } from "./remove-container.ts";

/** What a prune did. */
export interface PruneReport {
  /** IDs. */
  readonly removed: readonly string[];
  /** Bytes. */
  readonly spaceReclaimed: bigint;
}

/**
 * Removes every container that does not run and passes the filters; one that cannot be removed is left.
 *
 * @param signal ends the prune: what is left is spared
 * @throws invalid: a filter
 */
export async function pruneContainers(
  context: EngineContext,
  requested: Readonly<Record<string, StringList>>,
  signal: AbortSignal,
): Promise<PruneReport> {
  const filters = new Filters(requested, ["label", "label!", "until"]);
  const until = untilOf(filters, context.clock.nowMs());
  const doomed = [...context.state.containers.values()].filter(
    (record) => isVisible(record) && !isActive(record) && passes(record, filters, until),
  );
  const sizes = await writableSizes(context, doomed, signal);
  const removed: string[] = [];
  let spaceReclaimed = 0n;
  for (const { id } of doomed) {
    if (signal.aborted) {
      break;
    }
    try {
      await removeContainer(context, id, { force: false, volumes: false, link: false });
    } catch (error) {
      const { message } = fromUnknown(error);
      context.logger.warn({ err: error, container: id }, `cannot prune a container: ${message}`);
      continue;
    }
    removed.push(id);
    spaceReclaimed += sizes.get(id) ?? 0n;
  }
  await context.state.commit((change) =>
    change.event({
      type: "container",
      action: "prune",
      actorId: "",
      attributes: { reclaimed: String(spaceReclaimed) },
    }),
  );
  return { removed, spaceReclaimed };
}

function passes(record: ContainerRecord, filters: Filters, until: bigint | undefined): boolean {
  const { labels } = configOf(record);
  const isNewer =
    until !== undefined && record.created !== undefined && nanosecondsOf(record.created) > until;
  return (
    !isNewer &&
    filters.matchesPairs("label", labels) &&
    !(filters.has("label!") && filters.matchesPairs("label!", labels))
  );
}
