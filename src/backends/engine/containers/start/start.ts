/** State shared by the steps of one start. */
import type { AgentAddress } from "../../../../agent-client/address.ts";
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
  /** Its record, with the address for peers. */
  readonly placed: ContainerRecord;
}

/** An agent that did not answer during a start. */
interface LostAgent {
  readonly agent: AgentAddress;
  readonly failure: Error;
  /** Whether it may have been told to run. */
  readonly isTold: boolean;
  /** Whether attachments wait at it. */
  readonly isAttached: boolean;
}

/** A start in progress, with the container's lock held. */
export interface Start {
  readonly context: EngineContext;
  readonly live: LiveContainer;
  /** As it is to be journalled; after that, as it is recorded. */
  record: ContainerRecord;
  /** Set for a user's start; undefined for one by a restart policy, or a resumed one. */
  readonly asked: { readonly clientToken: string } | undefined;
  /** Aborts when the start is cancelled; once the agent was called there is a process to end instead. */
  readonly ended: AbortSignal;
  readonly phases: StartPhases;
  /** Whether an earlier process of the backend may have told the agent to run. */
  mayHaveBegun: boolean;
  /** Kept in memory, for this start only. */
  readonly secrets: StartSecrets | undefined;
  /** Set if the container runs in the place of its last run; undefined for a fresh one. */
  readonly step: Pick<Continued, "missingLayers"> | undefined;
  /** The launched container; undefined before. */
  launched?: Launched | undefined;
  /** The launched container and its agent; undefined until that answers. */
  met?: Met | undefined;
  /** Set if the container is launched again because its agent did not answer. */
  lost?: LostAgent;
  /** The request with which its agent starts the process. */
  request?: StartRequest;
  /** Whether its agent may have been told to run. */
  isTold?: boolean;
  started?: StartedProcess;
}

/** The result of an earlier step. Fails if it is missing. */
export function made<T>(part: T | undefined): T {
  if (part === undefined) {
    throw new Error("a start's step came before the one that it needs");
  }
  return part;
}
