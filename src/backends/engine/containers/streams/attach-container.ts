/** Attaching: at once to a container that runs, by reservation to one that does not. */
import type { AttachContainerRequest } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { AgentAddress } from "../../../../agent-client/address.ts";
import { servingAddressOf } from "../agent/agent-endpoint.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { findContainer } from "../decisions/lookup.ts";
import { attachRefusal } from "../decisions/life/refusals.ts";
import { configOf, hasProcess } from "../../../model/records.ts";

/** An attachment that was accepted. */
export interface AcceptedAttachment {
  readonly id: string;
  readonly tty: boolean;
  readonly openStdin: boolean;
  /** Whether it has a process now: the address comes at once. */
  readonly running: boolean;
  /** Empty on a container that runs. */
  readonly attachId: string;
  /** At once for a running container, at its start for another; rejects when that fails or the signal aborts. */
  readonly address: Promise<AgentAddress>;
}

/**
 * Accepts an attachment.
 *
 * @param signal ends a reservation that was not served yet
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
  // The rejection has no other handler where the client leaves before it asks for the address.
  served.address.catch(() => undefined);
  await context.state.commit((change) => change.event(containerEvent(record, "attach")));
  return { id: record.id, tty, openStdin, running, ...served };
}
