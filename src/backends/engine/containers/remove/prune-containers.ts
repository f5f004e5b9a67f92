/** `docker container prune`. */
import { conflict } from "../../../../common/errors.ts";
import type { StringList } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { Filters } from "../../../model/filters.ts";
import { containerOfId } from "../decisions/lookup.ts";
import { configOf, isVisible, nanosecondsOf } from "../../../model/records.ts";
import { writableSizes } from "../../services/sizes.ts";
import { untilOf } from "../../../model/until-filter.ts";
import { isUpOrComing } from "../live/up-or-coming.ts";
import { type PruneReport, pruneEach } from "../../work/prune-each.ts";
import { discardUnknown } from "../../recovery/losses.ts";
import { removeContainer } from "./remove-container.ts";

/**
 * Removes all containers that neither run nor start and pass the filters; those that cannot be removed stay. Without
 * filters, files of containers that the state does not know are removed too.
 *
 * @param signal ends the prune: remaining containers are kept
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
    (record) => isVisible(record) && !isUpOrComing(context, record) && passes(record, filters, until),
  );
  const sizes = await writableSizes(context, doomed, signal);
  const unclaimed = Object.keys(requested).length === 0 ? await discardUnknown(context, signal) : [];
  const report = await pruneEach(
    context,
    "container",
    doomed.map(({ id }) => id),
    sizes,
    async (id) => {
      if (isUpOrComing(context, containerOfId(context.state, id))) {
        throw conflict(`container ${id} has been started meanwhile`);
      }
      await removeContainer(context, id, { force: false, volumes: false, link: false });
    },
    signal,
  );
  return { ...report, removed: [...report.removed, ...unclaimed] };
}

function passes(record: ContainerRecord, filters: Filters, until: bigint | undefined): boolean {
  const { labels } = configOf(record);
  if (isOfBuild(labels)) {
    return false;
  }
  const isNewer =
    until !== undefined && record.created !== undefined && nanosecondsOf(record.created) > until;
  return !isNewer && filters.matchesLabels(labels);
}
