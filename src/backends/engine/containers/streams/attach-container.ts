/** Attaches at once to a running container, by reservation to any other. */
import type { AttachContainerRequest } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { AgentAddress } from "../../../../agent-client/address.ts";
import { servingAddressOf } from "../agent/agent-endpoint.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { findContainer } from "../decisions/lookup.ts";
import { attachRefusal } from "../decisions/life/refusals.ts";
import { configOf, hasProcess } from "../../../model/records.ts";

/** An accepted attachment. */
export interface AcceptedAttachment {
  readonly id: string;
  readonly tty: boolean;
  readonly openStdin: boolean;
  /** Whether it has a process now, so that the address is available at once. */
  readonly running: boolean;
  /** Empty for a running container. */
  readonly attachId: string;
  /** Resolves at once for a running container, else at its start; rejects if that fails or the signal aborts. */
  readonly address: Promise<AgentAddress>;
}

/**
 * Accepts an attachment.
 *
 * @param signal cancels a reservation that is not served yet
 * @throws not-found; conflict: paused, restarting
 */
export async function attachContainer(
  context: EngineContext,
  request: AttachContainerRequest,
  signal: AbortSignal,
): Promise<AcceptedAttachment> {
  const record = findContainer(context.state, request.container);
  const refusal = attachRefusal(record, request.container);
  if (refusal !== undefined) {
    throw refusal;
  }
  const { tty, openStdin } = configOf(record);
  const running = hasProcess(record);
  const served =
    running || !request.stream
      ? { attachId: "", address: Promise.resolve(servingAddressOf(context, record.id)) }
      : context.live.of(record.id).reservations.reserve(signal);
  // The rejection has no other handler if the client leaves before it asks for the address.
  served.address.catch(() => undefined);
  await context.state.commit((change) => change.event(containerEvent(record, "attach")));
  return { id: record.id, tty, openStdin, running, ...served };
}
