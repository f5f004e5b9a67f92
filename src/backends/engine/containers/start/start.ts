/** One start, from the journalled intention on: what its steps share. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { StartSecrets } from "../../../driver/workload-spec.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import type { StartPhases } from "../live/start-phases.ts";
import type { Continued } from "./next-step.ts";

/** A start that is under way, with the container's lock held. */
export interface Start {
  readonly context: EngineContext;
  readonly live: LiveContainer;
  /** As it is journalled. */
  readonly record: ContainerRecord;
  /** Aborts when the start is ended: from the call of its agent on there is a process to end instead. */
  readonly ended: AbortSignal;
  readonly phases: StartPhases;
  /** An earlier process of the backend may have told its agent to run. */
  readonly mayHaveBegun: boolean;
  /** Held for this start alone. */
  readonly secrets: StartSecrets | undefined;
  /** The container runs where it ran before; undefined: anew. */
  readonly step: Pick<Continued, "missingLayers"> | undefined;
}
