/**
 * A start until it is journalled: waits for the release of the last run, allocates addresses, and commits the
 * intention.
 */
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
 * Waits until the last run is released, and until ended runs of other containers have released the addresses to
 * allocate.
 *
 * @throws the failure of a start that is cancelled meanwhile
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
 * Refuses a build step that would fail in the driver, before anything of its start is recorded.
 *
 * @throws conflict: the sandbox of the last step is gone, or this step has secrets, which would stay in its memory
 *   until a release
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

/** Allocates addresses and journals the intention. @throws the failure, once it is recorded */
export async function journalStart(start: Start): Promise<void> {
  const { context, live, record, asked } = start;
  let joined: ContainerRecord;
  try {
    const named = withSharedHostname(context.state, record);
    joined = starting(
      named,
      withNetworkErrors(
        () =>
          keptEndpoints(context, live, named) ?? connectedEndpoints(context.state, context.addresses, named),
      ),
    );
  } catch (error) {
    throw await recordFailure(context, live, record, error);
  }
  const startAwaited = live.run.start?.caller?.left.aborted === false;
  const reset = { startAwaited, startResumes: 0, restartToken: "" };
  const begun =
    asked === undefined
      ? withFields(joined, reset)
      : withFields(joined, { ...reset, restartCount: 0, startToken: asked.clientToken });
  try {
    await context.state.commit((change) => change.containers.put(begun), "under-way");
  } catch (error) {
    releaseAddresses(context.addresses, begun.endpoints);
    throw error;
  }
  start.record = begun;
}

/**
 * The endpoints of the last run, if a driver has kept its sandbox; undefined if none is kept, or if the container's
 * networks have changed.
 */
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

/** @throws the errors of network preparation, in dockerd's words */
function withNetworkErrors<Result>(prepare: () => Result): Result {
  try {
    return prepare();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw new SockerlessError(kind, `failed to set up container networking: ${message}`, error);
  }
}
