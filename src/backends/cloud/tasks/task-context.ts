/** Dependencies of all operations on tasks. */
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AgentFinder } from "../contract/agent-finder.ts";
import type { TaskAgents } from "../agents/task-agents.ts";
import type { CloudTasks, TaskRequests } from "../contract/cloud-tasks.ts";
import type { Sealer } from "../authority/seal.ts";
import type { StartSettings } from "./start-details.ts";
import type { Pool } from "../pool/pool.ts";
import type { StoredContainers } from "../stored/stored-containers.ts";
import type { Departures } from "./departures.ts";
import type { FindOfStartOptions } from "./find-tasks.ts";
import type { InterruptedStarts } from "./interrupted-starts.ts";
import type { TaskPoller } from "./poller.ts";
import type { QuotaLines } from "./quota-lines.ts";
import type { SinceWhen } from "./since-when.ts";
import type { TaskBook } from "./task-book.ts";
import type { ReportedEnds } from "./reported-end.ts";
import type { UnansweredRequests } from "./unanswered-requests.ts";

/** Time limits of starts. */
export interface TaskSettings {
  /** Milliseconds for a container's start. */
  readonly startTimeoutMs: number;
  /** Maximum milliseconds of a start's wait for capacity. */
  readonly quotaTimeoutMs: number;
}

/** Dependencies of tasks. */
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
  readonly searches: FindOfStartOptions["searches"];
  readonly interrupted: InterruptedStarts;
  readonly pool: Pool;
  readonly stored: Omit<StoredContainers, "close">;
  readonly ends: Pick<ReportedEnds, "of">;
  /** Tasks without news from agent and cloud. */
  readonly silences: SinceWhen;
  /** Tasks of another authority that the log has told of. */
  readonly toldOfOthers: Set<string>;
  /**
   * Tasks of later starts than the state knew, by container: none is started beside them, and the container's removal
   * ends them.
   */
  readonly later: Map<string, string>;
  readonly exitKey: Sealer["exitKey"];
  /** This instance's name, which identifies its tasks. */
  readonly instance: string;
  readonly settings: TaskSettings;
  /** Configured settings for agents. */
  readonly startSettings: StartSettings;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts when the backend shuts down. */
  readonly abandoned: AbortSignal;
}
