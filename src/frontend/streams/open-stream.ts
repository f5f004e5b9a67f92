/** Calls to a container's agent at the endpoint that the backend names, above all to open a stream. */
import type { Duplex } from "node:stream";

import type { Opened } from "../../agent-client/agent-stream.ts";
import { isErrorKind } from "../../common/errors.ts";
import type { AgentEndpoint } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { RequestContext } from "../request-context.ts";
import type { StreamLink } from "./stream-link.ts";
import type { Framing, StreamOperation } from "./thread-messages.ts";
import { onAbort } from "../../common/on-abort.ts";

/** Maximum number of endpoints to try before the stream fails. */
const maxAttempts = 4;

type OpeningContext = Pick<RequestContext, "services" | "signal">;

/** A stream to request from an agent. */
export interface StreamRequest {
  /** @param handOver whether to hand over the client's connection */
  readonly operation: (handOver: boolean) => StreamOperation;
  readonly framing: Framing;
  /** The client's connection, if it may be handed over; undefined: the stream goes through a worker. */
  readonly client?: Duplex | undefined;
}

/** A stream that its agent has accepted. */
export interface OpenStream {
  readonly link: StreamLink;
  readonly opened: Opened;
}

/**
 * Opens a stream at an endpoint and waits until the agent has accepted it. Decides which clients an agent is asked to
 * take over: {@link HandOver.mayTake}.
 *
 * @throws StreamError; of kind `unavailable` if the agent is leaving or unreachable
 */
export async function openStreamAt(
  { services, signal }: OpeningContext,
  endpoint: AgentEndpoint | undefined,
  { operation, framing, client }: StreamRequest,
): Promise<OpenStream> {
  signal.throwIfAborted();
  const handOver = client !== undefined && services.handOver?.mayTake(client, endpoint) === true;
  const target = services.agents.targetOf(endpoint);
  const link = services.streams.open(target, operation(handOver), framing, handOver);
  using _leaving = onAbort(signal, () => link.cancel());
  return { link, opened: await link.opened };
}

/**
 * The frontend's reach and key and, after a failure, the generation of the run whose agent failed, so that the backend
 * names another endpoint.
 */
export type Access = RequestContext["services"]["agents"]["access"];

/**
 * Runs work at the agent that serves a container, at the endpoint that the backend names. If that agent is leaving or
 * unreachable (`unavailable`), the backend is told and names another endpoint; if there is none, the agent's error
 * stands.
 *
 * @param place asks the backend for the endpoint; may be repeated
 * @param work may be repeated at another endpoint after it has thrown `unavailable`
 */
export async function atAgent<Place extends { readonly endpoint?: AgentEndpoint | undefined }, T>(
  { services, signal }: OpeningContext,
  place: (access: Access) => Promise<Place>,
  work: (place: Place) => Promise<T>,
): Promise<T> {
  let failed: bigint | undefined;
  for (let attempt = 1; ; attempt++) {
    const { access } = services.agents;
    const found = await place(failed === undefined ? access : { ...access, failedGeneration: failed });
    const { generation = 0n } = found.endpoint ?? {};
    try {
      return await work(found);
    } catch (error) {
      const isLast = attempt === maxAttempts || (generation !== 0n && generation === failed);
      if (isLast || signal.aborted || !isErrorKind(error, "unavailable")) {
        throw error;
      }
      failed = generation;
    }
  }
}

/** Opens a stream with {@link openStreamAt} by {@link atAgent}. */
export async function openStream<Place extends { readonly endpoint?: AgentEndpoint | undefined }>(
  context: OpeningContext,
  place: (access: Access) => Promise<Place>,
  request: (place: Place) => StreamRequest,
): Promise<OpenStream & { readonly place: Place }> {
  return await atAgent(context, place, async (found) => {
    return { ...(await openStreamAt(context, found.endpoint, request(found))), place: found };
  });
}
