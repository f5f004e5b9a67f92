/** Calls to the agent of a container that runs. */
import type { Client } from "@connectrpc/connect";

import { conflict, fromUnknown, SockerlessError, unavailable } from "../../../../common/errors.ts";
import type { AgentService } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { LiveContainer } from "../live/live.ts";

/** How long an agent may take to answer. */
const callTimeoutMs = 10_000;

/**
 * Asks the agent of a container that runs.
 *
 * @param prefix put before the message of a failure, with a colon
 * @throws conflict: the container has just ended; unavailable: the agent cannot be reached; what the call throws
 */
export async function askAgent<T>(
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
