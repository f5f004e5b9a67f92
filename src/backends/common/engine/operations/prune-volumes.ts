/** Removing all volumes that no container uses. */
import { invalid } from "../../../../common/errors.ts";
import type { StringList } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { EngineContext } from "../context.ts";
import { Filters } from "../filters.ts";
import { volumeSizes } from "../sizes.ts";
import { anonymousLabel, listVolumes, removeVolume, usersOf } from "../volumes.ts";
import { type PruneReport, pruneEach } from "./prune-each.ts";

/**
 * Removes the anonymous volumes that nothing uses, or with `all` every such volume; those made with options are
 * somebody's own and stay, as in Docker.
 *
 * @param signal ends the prune: what is left is spared
 * @throws invalid: a filter
 */
export async function pruneVolumes(
  context: EngineContext,
  requested: Readonly<Record<string, StringList>>,
  signal: AbortSignal,
): Promise<PruneReport> {
  const filters = new Filters(requested, ["all", "label", "label!"]);
  const all = isAll(filters);
  const [driver] = context.driver.policy.volumeDrivers;
  const unused = listVolumes(context.state, {}).filter(
    (record) =>
      usersOf(context.state, record.name).length === 0 &&
      record.driver === driver &&
      (all || Object.hasOwn(record.labels, anonymousLabel)) &&
      Object.keys(record.options).length === 0 &&
      filters.matchesLabels(record.labels),
  );
  const names = unused.map(({ name }) => name);
  const sizes = await volumeSizes(context, names);
  return await pruneEach(
    context,
    "volume",
    names,
    sizes,
    (name) => removeVolume(context, name, false),
    signal,
  );
}

/** The truth value of the filter `all`, as Go reads one. */
function isAll(filters: Filters): boolean {
  const [value, ...others] = filters.get("all");
  if (others.length > 0) {
    throw invalid(`invalid filter 'all=[${filters.get("all").join(" ")}]': only one value is expected`);
  }
  if (value === undefined || /^(0|f|false)$/i.test(value)) {
    return false;
  }
  if (/^(1|t|true)$/i.test(value)) {
    return true;
  }
  throw invalid(`invalid filter 'all': strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`);
}
