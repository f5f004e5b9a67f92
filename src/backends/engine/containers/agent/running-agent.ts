/** Calls to the agent of a running container. */
import type { Client } from "@connectrpc/connect";

import { conflict, fromUnknown, SockerlessError, unavailable } from "../../../../common/errors.ts";
import type { AgentService } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LiveContainer } from "../live/live.ts";

/** Time limit for an agent's answer. */
const callTimeoutMs = 10_000;

/**
 * Calls the agent of a running container.
 *
 * @param prefix put before the message of a failure, with a colon
 * @throws conflict: the container has just ended; unavailable: the agent cannot be reached; the call's errors
 */
export async function callAgent<T>(
  live: LiveContainer,
  call: (client: Client<typeof AgentService>, options: { readonly timeoutMs: number }) => Promise<T>,
  prefix: string = "",
): Promise<T> {
  const { link } = live;
  if (link === undefined) {
    throw unavailable(`the agent of container ${live.id} cannot be reached`);
  }
  try {
    return await call(link.agent.client, { timeoutMs: callTimeoutMs });
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    if (kind === "conflict") {
      throw conflict(`container ${live.id} is not running`, error);
    }
    throw new SockerlessError(kind, prefix === "" ? message : `${prefix}: ${message}`, error);
  }
}
