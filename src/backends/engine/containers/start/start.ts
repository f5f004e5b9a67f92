/** One start: what its steps share. */
import type { StartedProcess, StartRequest } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched } from "../../../driver/launches.ts";
import type { StartSecrets } from "../../../driver/workload-spec.ts";
import type { EngineContext } from "../../context.ts";
import type { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import type { StartPhases } from "../live/start-phases.ts";
import type { Continued } from "./next-step.ts";

/** A container that was launched, and whose agent answers. */
export interface Met {
  readonly launched: Launched;
  readonly link: AgentLink;
  /** Its record, with the address that peers are told. */
  readonly placed: ContainerRecord;
}

/** A start that is under way, with the container's lock held. */
export interface Start {
  readonly context: EngineContext;
  readonly live: LiveContainer;
  /** As it is to be journalled; from then on as it is. */
  record: ContainerRecord;
  /** A user's start; undefined: a restart policy's, or one that is taken up. */
  readonly asked: { readonly clientToken: string } | undefined;
  /** Aborts when the start is ended: from the call of its agent on there is a process to end instead. */
  readonly ended: AbortSignal;
  readonly phases: StartPhases;
  /** An earlier process of the backend may have told its agent to run. */
  readonly mayHaveBegun: boolean;
  /** Held for this start alone. */
  readonly secrets: StartSecrets | undefined;
  /** The container runs where it ran before; undefined: anew. */
  readonly step: Pick<Continued, "missingLayers"> | undefined;
  /** The container as launched, and its agent. */
  met?: Met | undefined;
  /** The call by which its agent begins the process. */
  request?: StartRequest;
  /** Its agent may have been told to run it. */
  isTold?: boolean;
  started?: StartedProcess;
}

/** The part of a start that an earlier step has made. */
export function made<T>(part: T | undefined): T {
  if (part === undefined) {
    throw new Error("a start's step came before the one that it needs");
  }
  return part;
}
