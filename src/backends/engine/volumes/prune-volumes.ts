/** `docker volume prune`. */
import { invalid } from "../../../common/errors.ts";
import type { StringList } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { Filters } from "../../model/filters.ts";
import { volumeSizes } from "../services/sizes.ts";
import { anonymousLabel, isCreatedAt, isKeptHere, listVolumes, usersOf } from "./decisions/volumes.ts";
import { removeVolume } from "./volumes.ts";
import { type PruneReport, pruneEach } from "../work/prune-each.ts";

/**
 * Removes unused anonymous volumes, or with `all` all unused volumes, if their content belongs to this backend.
 *
 * @param signal ends the prune: remaining volumes are kept
 * @throws invalid: a filter
 */
export async function pruneVolumes(
  context: EngineContext,
  requested: Readonly<Record<string, StringList>>,
  signal: AbortSignal,
): Promise<PruneReport> {
  const filters = new Filters(requested, ["all", "label", "label!"]);
  const all = isAll(filters);
  const { rules } = context.driver.volumes;
  const unused = listVolumes(context.state, {}).filter(
    (record) =>
      usersOf(context.state, record.name).length === 0 &&
      isKeptHere(rules, record) &&
      (all || Object.hasOwn(record.labels, anonymousLabel)) &&
      filters.matchesLabels(record.labels),
  );
  const chosen = new Map(unused.map((record) => [record.name, record] as const));
  const names = [...chosen.keys()];
  const sizes = await volumeSizes(context, names, signal);
  const isStillUnused = (record: VolumeRecord): boolean =>
    isCreatedAt(record, chosen.get(record.name)?.created) && usersOf(context.state, record.name).length === 0;
  return await pruneEach(
    context,
    "volume",
    names,
    sizes,
    (name) => removeVolume(context, name, false, isStillUnused),
    signal,
  );
}

/** The boolean value of the filter `all`, parsed as by Go. */
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
