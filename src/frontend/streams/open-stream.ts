/** Opening a stream whose place the backend names. */
import type { Opened } from "../../agent-client/agent-stream.ts";
import { isErrorKind } from "../../common/errors.ts";
import type { AgentEndpoint } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { RequestContext } from "../request-context.ts";
import type { StreamLink } from "./stream-link.ts";
import type { Framing, StreamOperation } from "./thread-messages.ts";

/** How often the backend is asked again for a place where the stream can be had. */
const maxAttempts = 4;

type OpeningContext = Pick<RequestContext, "services" | "signal">;

/** A stream that its agent has taken. */
export interface OpenStream {
  readonly link: StreamLink;
  readonly opened: Opened;
}

/**
 * Opens a stream at an endpoint and waits until the agent has taken it.
 *
 * @throws StreamError; of kind `unavailable` when the agent is leaving or away
 */
export async function openStreamAt(
  { services, signal }: OpeningContext,
  endpoint: AgentEndpoint | undefined,
  operation: StreamOperation,
  framing: Framing,
): Promise<OpenStream> {
  signal.throwIfAborted();
  const link = services.streams.open(services.agents.targetOf(endpoint), operation, framing);
  const leave = (): void => link.cancel();
  signal.addEventListener("abort", leave, { once: true });
  try {
    return { link, opened: await link.opened };
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/**
 * Asks the backend for a place and opens the stream there. An agent that leaves between the two answers `unavailable`;
 * then the backend knows another place.
 *
 * @param place asks the backend; may be repeated
 */
export async function openStream<Place extends { readonly endpoint?: AgentEndpoint | undefined }>(
  context: OpeningContext,
  place: () => Promise<Place>,
  request: (place: Place) => { readonly operation: StreamOperation; readonly framing: Framing },
): Promise<OpenStream & { readonly place: Place }> {
  for (let attempt = 1; ; attempt++) {
    const found = await place();
    const { operation, framing } = request(found);
    try {
      return { ...(await openStreamAt(context, found.endpoint, operation, framing)), place: found };
    } catch (error) {
      if (attempt === maxAttempts || context.signal.aborted || !isErrorKind(error, "unavailable")) {
        throw error;
      }
    }
  }
}
