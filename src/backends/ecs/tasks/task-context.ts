/** What every operation on tasks works with. */
import type { ECSClient } from "@aws-sdk/client-ecs";

import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { CloudAuthority } from "../../common/cloud/authority.ts";
import type { AgentTarget } from "../../../agent-client/address.ts";
import type { StartSettings } from "../../common/cloud/start-details.ts";
import type { AwsService } from "../aws/clients.ts";
import type { NameMirror } from "../cloud-map.ts";
import type { DefinitionSettings } from "../definitions/definition.ts";
import type { Definitions } from "../definitions/definitions.ts";
import type { TaskImage } from "../ecr/task-image.ts";
import type { EcsNetworks } from "../networks.ts";
import type { Departures } from "./departures.ts";
import type { TaskPoller } from "./poller.ts";
import type { QuotaLines } from "./quota-lines.ts";
import type { RunSettings } from "./run-request.ts";
import type { TaskAgents } from "./task-agents.ts";
import type { TaskBook } from "./task-book.ts";
import type { UnansweredRequests } from "./unanswered-requests.ts";

/** What is kept of containers that have no agent: their logs, and files that were put into them. */
export interface StoredContainers {
  /** The unix socket on which they are served. */
  readonly socket: string;
  /** Gives files that were put into a container before its start to its agent. */
  applyStaged(containerId: string, agent: AgentTarget, signal: AbortSignal): Promise<void>;
  /** Forgets files that were put into a container which has run since. */
  settleStaged(containerId: string): Promise<void>;
  /** Takes the log of a container that has ended from its agent. */
  drain(containerId: string, agent: AgentTarget): Promise<void>;
  /** The container is gone. */
  remove(containerId: string): Promise<void>;
}

/** The parts of the driver that tasks touch. */
export interface TaskContext {
  readonly ecs: AwsService<ECSClient>;
  readonly authority: CloudAuthority;
  readonly agents: TaskAgents;
  readonly book: TaskBook;
  readonly definitions: Definitions;
  readonly poller: TaskPoller;
  readonly departures: Departures;
  readonly quotaLines: QuotaLines;
  readonly unanswered: UnansweredRequests;
  readonly networks: Pick<EcsNetworks, "groupsOf">;
  readonly stored: StoredContainers;
  /** Undefined: nobody outside is told names. */
  readonly mirror: NameMirror | undefined;
  /** The image as tasks pull it. @throws not-found, conflict */
  readonly taskImage: (image: ImageRecord) => TaskImage;
  readonly run: RunSettings;
  readonly definition: DefinitionSettings;
  readonly start: StartSettings;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts when the backend waits for nobody any more. */
  readonly abandoned: AbortSignal;
}
