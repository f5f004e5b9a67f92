/** Proofs by which the agent of a task is known from others that call and claim to be it. */
import { createHash, timingSafeEqual } from "node:crypto";

import type { AgentClient } from "../../../agent-client/client.ts";
import { forbidden } from "../../../common/errors.ts";
import type { TaskPlace } from "../contract/agent-finder.ts";

/** An agent that has called, on a connection that is its own and was opened with this backend's certificate. */
export interface UnprovenAgent {
  readonly containerId: string;
  /** SHA-256 of the SubjectPublicKeyInfo that this connection was opened with. */
  readonly pin: Uint8Array;
  readonly client: Pick<AgentClient["client"], "prove">;
}

/** Has agents prove which task they run in. */
export interface AgentProof {
  /**
   * Resolves once the agent has proven that it runs in the task.
   *
   * @throws conflict: it runs in another task of ours; forbidden: in none; others: nobody knows yet
   */
  check(agent: UnprovenAgent, place: TaskPlace, signal: AbortSignal): Promise<void>;
}

/**
 * The secret that the platform has delivered to the task. Good for one key: an agent that was met is known by its key, and
 * whoever shows its secret with another is not asked for it again.
 *
 * @param secretOf the secret that a container's task was given; a launch has one of its own, and the cloud knows of which
 *   launch a task is
 */
export function secretProof(
  secretOf: (containerId: string, place: TaskPlace) => string | Promise<string>,
): AgentProof {
  return {
    async check({ containerId, client }, place, signal) {
      const { proof } = await client.prove({}, { signal });
      const shown = proof.case === "secret" ? proof.value : "";
      if (!timingSafeEqual(digest(shown), digest(await secretOf(containerId, place)))) {
        throw forbidden("it does not have the secret of the container's task");
      }
    },
  };
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
