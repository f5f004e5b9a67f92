/** Workloads that wait for containers, and cost money meanwhile. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { GetPoolResponseSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";

export interface PreparedWorkloads {
  /** Tells what waits, and what that costs; undefined: nothing can be prepared. */
  report(): MessageInitShape<typeof GetPoolResponseSchema> | undefined;
  /**
   * Stops all that wait.
   *
   * @param restMs time for which none are prepared
   * @returns how many are stopped; undefined: nothing can be prepared
   */
  drain(restMs: number): number | undefined;
}
