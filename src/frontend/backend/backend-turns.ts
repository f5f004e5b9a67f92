/** The turns of the backend's event loop, as far as they are seen from here. */
import type { Client } from "@connectrpc/connect";

import type { Health } from "../../gen/grpc/health/v1/health_pb.ts";

/** Milliseconds in which a backend that works has a turn. */
const longestTurnMs = 1_000;

/**
 * Makes a function that waits for a turn, as all do that call it meanwhile. It throws if the backend has none, or none
 * within a second.
 */
export function backendTurns(health: Pick<Client<typeof Health>, "check">): () => Promise<unknown> {
  let turn: Promise<unknown> | undefined;
  return () => {
    turn ??= health.check({}, { timeoutMs: longestTurnMs }).finally(() => {
      turn = undefined;
    });
    return turn;
  };
}
