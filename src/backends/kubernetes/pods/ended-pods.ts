/** Pods that have ended are deleted, once their containers have done with them: Kubernetes keeps them for long. */
import type { V1Pod } from "@kubernetes/client-node";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { containerAnnotation, formatTask } from "../names.ts";
import { nameIn } from "./pod-requests.ts";
import { isOver } from "./pod-view.ts";

/** Parts of {@link EndedPods}. */
export interface EndedPodsOptions {
  /** Deletes a pod; one that is gone is no error. */
  readonly remove: (task: string) => Promise<void>;
  /** The books' record of a container, or of the one that has taken a task if none is said; undefined: there is none. */
  readonly recordOf: (containerId: string, task: string) => TaskRecord | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** After this time those who look at a pod that has ended have seen it. */
const firstMs = 5_000;
const againMs = 30_000;

/** Deletes pods that have ended. */
export class EndedPods {
  readonly #options: EndedPodsOptions;
  readonly #closed = new AbortController();
  readonly #work = new Map<string, Promise<void>>();

  constructor(options: EndedPodsOptions) {
    this.#options = options;
  }

  /** Hears of a pod, which may have ended. */
  hear(pod: V1Pod): void {
    const { name = "", uid = "", annotations = {}, deletionTimestamp } = pod.metadata ?? {};
    const task = formatTask({ pod: name, uid });
    const isLeft = isOver(pod) && deletionTimestamp === undefined;
    if (isLeft && !this.#work.has(task) && !this.#closed.signal.aborted) {
      const containerId = annotations[containerAnnotation] ?? "";
      this.#work.set(
        task,
        this.#see(task, name, containerId).finally(() => this.#work.delete(task)),
      );
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all(this.#work.values());
  }

  async #see(task: string, name: string, containerId: string): Promise<void> {
    const { remove, clock, logger } = this.#options;
    const { signal } = this.#closed;
    for (let pauseMs = firstMs; !signal.aborted; pauseMs = againMs) {
      try {
        await clock.sleep(pauseMs, signal);
        if (!this.#isNeeded(task, name, containerId)) {
          await remove(task);
          return;
        }
      } catch (error) {
        if (!signal.aborted) {
          logger.warn(
            { task, err: error },
            `a pod that has ended cannot be deleted yet: ${messageOf(error)}`,
          );
        }
      }
    }
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
