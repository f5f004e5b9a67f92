/** Proofs that distinguish a task's agent from callers that claim to be it. */
import { createHash, timingSafeEqual } from "node:crypto";

import type { AgentClient } from "../../../agent-client/client.ts";
import { forbidden } from "../../../common/errors.ts";
import type { TaskPlace } from "../contract/agent-finder.ts";

/** An agent that has called, on its own connection, opened with this backend's certificate. */
export interface UnprovenAgent {
  readonly containerId: string;
  /** SHA-256 of the SubjectPublicKeyInfo of this connection's certificate. */
  readonly pin: Uint8Array;
  readonly client: Pick<AgentClient["client"], "prove">;
}

/** Verifies which task an agent runs in. */
export interface AgentProof {
  /**
   * Resolves once the agent has proven that it runs in the task.
   *
   * @throws conflict: it runs in another task of ours; forbidden: in none; other errors: unknown yet
   */
  check(agent: UnprovenAgent, place: TaskPlace, signal: AbortSignal): Promise<void>;
}

/**
 * Proof by the secret that the platform has delivered to the task. It is valid for one key: a known agent is identified
 * by its key, and a caller that shows the secret with another key is refused.
 *
 * @param secretOf the secret of a container's task; each launch has its own, and the cloud knows which launch a task
 *   belongs to
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
