/** The parts of the driver that every operation on tasks works with. */
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AgentFinder } from "../contract/agent-finder.ts";
import type { TaskAgents } from "../agents/task-agents.ts";
import type { CloudTasks, TaskRequests } from "../contract/cloud-tasks.ts";
import type { Sealer } from "../authority/seal.ts";
import type { StartSettings } from "./start-details.ts";
import type { StoredContainers } from "../stored/stored-containers.ts";
import type { Departures } from "./departures.ts";
import type { TaskPoller } from "./poller.ts";
import type { QuotaLines } from "./quota-lines.ts";
import type { SinceWhen } from "./since-when.ts";
import type { TaskBook } from "./task-book.ts";
import type { ToldEnds } from "./told-end.ts";
import type { UnansweredRequests } from "./unanswered-requests.ts";

/** How long starts may take. */
export interface TaskSettings {
  /** How long this backend tries to start a container, milliseconds. */
  readonly startTimeoutMs: number;
  /** How long a start waits for room in the account at most, milliseconds. */
  readonly quotaTimeoutMs: number;
}

/** The parts of the driver that tasks touch. */
export interface TaskContext {
  readonly cloud: CloudTasks;
  readonly requests: TaskRequests;
  readonly finder: AgentFinder;
  readonly agents: TaskAgents;
  readonly book: TaskBook;
  readonly poller: TaskPoller;
  readonly departures: Departures;
  readonly quotaLines: QuotaLines;
  readonly unanswered: UnansweredRequests;
  readonly stored: Omit<StoredContainers, "close">;
  readonly ends: Pick<ToldEnds, "of">;
  /** Tasks of which neither their agents nor the cloud tell. */
  readonly silences: SinceWhen;
  readonly exitKey: Sealer["exitKey"];
  /** Names this sockerless: its tasks are known again by it. */
  readonly instance: string;
  readonly settings: TaskSettings;
  /** Settings of the configuration that agents are told. */
  readonly startSettings: StartSettings;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts when the backend waits for nobody any more. */
  readonly abandoned: AbortSignal;
}
