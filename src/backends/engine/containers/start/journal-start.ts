/** A start before it is journalled: the run before has left, addresses are taken, and the intention is on record. */
import { isDeepStrictEqual } from "node:util";

import { conflict, fromUnknown, SockerlessError } from "../../../../common/errors.ts";
import type { NetworkEndpoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { StartSecrets } from "../../../driver/workload-spec.ts";
import type { Endpoints } from "../../../model/endpoints.ts";
import { withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { withSharedHostname } from "../../networks/decisions/endpoints.ts";
import { awaitAddresses, connectedEndpoints, releaseAddresses } from "../../networks/endpoint-addresses.ts";
import { containerOfId } from "../decisions/lookup.ts";
import { starting } from "../decisions/life/transitions.ts";
import type { LiveContainer } from "../live/live.ts";
import { recordFailure } from "./record-start.ts";
import type { Start } from "./start.ts";

/**
 * Waits until what the run before has left is away, and until runs of others that have ended have released its addresses.
 *
 * @throws the failure of a start that is ended meanwhile
 */
export async function releasedBefore(
  context: EngineContext,
  live: LiveContainer,
  { endpoints }: ContainerRecord,
  ended: AbortSignal,
): Promise<void> {
  try {
    await unlessAborted(ended, live.released);
    await awaitAddresses(context.state, context.addresses, endpoints, ended);
  } catch (error) {
    const stoppedByUser = ended.reason === live.startEnded;
    const record = withFields(containerOfId(context.state, live.id), { stoppedByUser });
    throw await recordFailure(context, live, record, error);
  }
}

/**
 * Refuses a step that would fail in the driver, before anything is recorded of its start.
 *
 * @throws conflict: what the last one ran in is gone, or this one has what stays in memory until a release
 */
export function refuseUnlessKept(
  { driver }: EngineContext,
  { id, kept }: LiveContainer,
  secrets: StartSecrets | undefined,
): void {
  const hasSecrets = secrets !== undefined && secrets.files.length + secrets.env.length > 0;
  if (driver.launches.steps.kind === "in-fresh-files" && (kept === undefined || hasSecrets)) {
    throw conflict(`nothing is kept of container ${id} that another step could run in`);
  }
}

/** Takes addresses and journals the intention. @throws the failure, once it is recorded */
export async function journalStart(start: Start): Promise<void> {
  const { context, live, record, asked } = start;
  let joined: ContainerRecord;
  try {
    const named = withSharedHostname(context.state, record);
    joined = starting(
      named,
      networked(
        () =>
          keptEndpoints(context, live, named) ?? connectedEndpoints(context.state, context.addresses, named),
      ),
    );
  } catch (error) {
    throw await recordFailure(context, live, record, error);
  }
  const startAwaited = live.run.start?.caller?.left.aborted === false;
  const begun =
    asked === undefined
      ? withFields(joined, { startAwaited })
      : withFields(joined, { restartCount: 0, startToken: asked.clientToken, startAwaited });
  await context.state.commit((change) => change.containers.put(begun));
  start.record = begun;
}

/** The endpoints of the last run, where a driver has kept them; undefined: nothing is kept, or it has others by now. */
function keptEndpoints(
  { addresses }: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
): Record<string, NetworkEndpoint> | undefined {
  const kept = live.kept;
  live.kept = undefined;
  const networksOf = (endpoints: Endpoints) => new Set(Object.keys(endpoints));
  if (kept === undefined || isDeepStrictEqual(networksOf(kept), networksOf(record.endpoints))) {
    return kept;
  }
  releaseAddresses(addresses, kept);
  return undefined;
}

/** @throws what the preparation of networks does, in dockerd's words */
function networked<Result>(prepare: () => Result): Result {
  try {
    return prepare();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw new SockerlessError(kind, `failed to set up container networking: ${message}`, error);
  }
}
