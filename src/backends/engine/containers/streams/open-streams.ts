/** Opens logs and files of containers: the backend's checks before a frontend turns to the agent. */
import { conflict, forbidden, notImplemented } from "../../../../common/errors.ts";
import type { AgentAccess, AgentEndpoint } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { endpointFor, servingAddressOf } from "../agent/agent-endpoint.ts";
import { logDetails } from "../decisions/container-log.ts";
import type { EngineContext } from "../../context.ts";
import { findContainer } from "../decisions/lookup.ts";
import { configOf, hostConfigOf } from "../../../model/records.ts";

/** Bytes of the longest details: each reader of a log has its own, before each line. */
const longestDetails = 8 * 1024;

/** Characters of the longest user that is told: a longer text names nobody. */
const longestUser = 1024;

/** Endpoint that serves a log, with details for the reader. */
export interface OpenedLogs {
  readonly endpoint: AgentEndpoint;
  readonly tty: boolean;
  readonly details: Record<string, string>;
}

/** Opens a container's log. @throws not-found; conflict: it is being removed; not-implemented: it keeps none */
export async function openLogs(
  context: EngineContext,
  reference: string,
  access: AgentAccess | undefined,
): Promise<OpenedLogs> {
  const record = findContainer(context.state, reference);
  if (context.live.peek(record.id)?.run.isRemoving === true) {
    throw conflict("can not get logs from container which is dead or marked for removal");
  }
  if (hostConfigOf(record).logConfig?.type === "none") {
    throw notImplemented("configured logging driver does not support reading");
  }
  const address = context.driver.workloads.wholeLog(record.id) ?? servingAddressOf(context, record.id);
  return {
    endpoint: await endpointFor(context, record.id, address, access),
    tty: configOf(record).tty,
    details: shownDetails(context, record),
  };
}

/** Endpoint that serves files. */
export interface OpenedArchive {
  readonly endpoint: AgentEndpoint;
  /** The container's user. */
  readonly user: string;
}

/**
 * Opens a container's files.
 *
 * @param write whether to refuse a read-only container; the agent checks individual paths
 * @throws not-found; forbidden: read-only
 */
export async function openArchive(
  context: EngineContext,
  reference: string,
  access: AgentAccess | undefined,
  write: boolean,
): Promise<OpenedArchive> {
  const record = findContainer(context.state, reference);
  const { readonlyRootfs, tmpfs } = hostConfigOf(record);
  const isWritable = record.mounts.some((point) => point.rw) || Object.keys(tmpfs).length > 0;
  if (write && readonlyRootfs && !isWritable) {
    throw forbidden("container rootfs is marked read-only");
  }
  const endpoint = await endpointFor(context, record.id, servingAddressOf(context, record.id), access);
  return { endpoint, user: configOf(record).user.slice(0, longestUser) };
}

/** Details of a container's log; none if they are too long, or its options invalid, as such a container has never started. */
function shownDetails({ logger }: EngineContext, record: ContainerRecord): Record<string, string> {
  try {
    const details = logDetails(record);
    if (Buffer.byteLength(JSON.stringify(details)) > longestDetails) {
      throw new Error(`they have more than ${longestDetails} bytes`);
    }
    return details;
  } catch (error) {
    logger.warn({ container: record.id, err: error }, "the details of a log cannot be told");
    return {};
  }
}
