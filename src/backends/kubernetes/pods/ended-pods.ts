/**
 * Pods that have ended, or cannot begin, are deleted, once their containers have done with them: Kubernetes keeps them for
 * long, and what those request that cannot begin.
 */
import type { V1Pod } from "@kubernetes/client-node";

import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { EndedTasks } from "../../cloud/tasks/ended-tasks.ts";
import { containerAnnotation, formatTask } from "../names.ts";
import { nameIn } from "./pod-requests.ts";
import { failedWait, isOver } from "./pod-view.ts";

/** Parts of {@link EndedPods}. */
export interface EndedPodsOptions {
  /** Deletes a pod; one that is gone is no error. */
  readonly remove: (task: string) => Promise<void>;
  /** The books' record of a container, or of the one that has taken a task if none is said; undefined: there is none. */
  readonly recordOf: (containerId: string, task: string) => TaskRecord | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Deletes pods that have ended, or cannot begin. */
export class EndedPods {
  readonly #options: EndedPodsOptions;
  /** The tasks of pods to be deleted: one that could not begin may have begun since. */
  readonly #over = new Set<string>();
  readonly #ended: EndedTasks;

  constructor(options: EndedPodsOptions) {
    this.#options = options;
    this.#ended = new EndedTasks(options.clock, options.logger);
  }

  /** Hears of a pod, which may have ended, or fail to begin. */
  hear(pod: V1Pod): void {
    const { name = "", uid = "", annotations = {}, deletionTimestamp } = pod.metadata ?? {};
    const task = formatTask({ pod: name, uid });
    if (deletionTimestamp !== undefined || !(isOver(pod) || failedWait(pod) !== undefined)) {
      this.#over.delete(task);
      return;
    }
    this.#over.add(task);
    const containerId = annotations[containerAnnotation] ?? "";
    this.#ended.watch(task, async () => {
      if (!this.#over.has(task)) {
        return true;
      }
      if (this.#isNeeded(task, name, containerId)) {
        return false;
      }
      await this.#options.remove(task);
      this.#over.delete(task);
      return true;
    });
  }

  async close(): Promise<void> {
    await this.#ended.close();
  }

  /** Whether a container's record names a pod: it runs, is asked for, or lingers. */
  #isNeeded(task: string, name: string, containerId: string): boolean {
    const record = this.#options.recordOf(containerId, task);
    if (record === undefined || record.phase === TaskPhase.GONE) {
      return false;
    }
    return record.task === ""
      ? record.request !== "" && nameIn(record.request) === name
      : record.task === task;
  }
}
