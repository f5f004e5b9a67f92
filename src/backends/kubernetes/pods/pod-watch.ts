/**
 * The pods of this instance, as a watch of the API server tells of them: listed once, and again where the watch has lost its
 * place. A watch that ends or breaks is made again; until it is, nobody knows how pods stand.
 */
import { EventEmitter } from "node:events";

import { type V1ObjectMeta, type V1Pod, Watch } from "@kubernetes/client-node";

import type { Clock } from "../../../common/clock.ts";
import { messageOf, unavailable } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import type { KubernetesClient } from "../api/client.ts";
import { KubernetesError } from "../api/errors.ts";
import { formatTask, isContainersPod } from "../names.ts";
import { isEndReported, partsRead, runsOn } from "./pod-view.ts";

/** Parts and settings of a {@link PodWatch}. */
export interface PodWatchOptions {
  readonly client: KubernetesClient;
  readonly selector: string;
  /** Refuses, by the tasks of each list, to tell of pods that are not the state's. */
  readonly refuse?: (found: Pick<ReadonlySet<string>, "has">) => Promise<void>;
  /** Hears of each pod that is new, or has changed. */
  readonly changed: (pod: V1Pod) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The last that was told of a pod. */
export interface SeenPod {
  /** As {@link partsRead} leaves it. */
  readonly pod: V1Pod;
  readonly deleted: boolean;
  /** This backend has had it deleted. */
  readonly stopped: boolean;
  /** Since when it is known to {@link runsOn}. */
  readonly runsOnFromMs?: number | undefined;
}

const pauses = { firstMs: 100, longestMs: 5_000 };
/** The last of a pod that is gone is kept so long: whoever waits for an end has heard of it. */
const rememberedMs = 10 * 60_000;
/** Time for a node to report the end of a container whose pod has ended. */
const endDueMs = 60_000;
/** The watch has lost its place. */
const goneStatus = 410;

/** Tells how the pods stand. */
export class PodWatch {
  readonly #options: PodWatchOptions;
  readonly #pods = new Map<string, SeenPod>();
  /** Events: the tasks of pods whose nodes have reported their end. */
  readonly #ends = new EventEmitter().setMaxListeners(0);
  readonly #closed = new AbortController();
  #running: Promise<void> | undefined;
  #inSync = Promise.withResolvers<void>();
  /** Why nothing is known now; undefined: it is, or is being asked for the first time. */
  #failure: unknown;

  constructor(options: PodWatchOptions) {
    this.#options = options;
  }

  /**
   * The pods that are known, by task.
   *
   * @throws KubernetesError: the API server does not tell; what refuses the list; the signal's reason
   */
  async pods(signal: AbortSignal): Promise<ReadonlyMap<string, SeenPod>> {
    this.#running ??= this.#run();
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    await unlessAborted(signal, this.#inSync.promise);
    return this.#pods;
  }

  /**
   * Calls back once a pod's node has reported its end, at once if it already has. The process of a pod that was deleted
   * before that may run for some seconds, and its agent reports its end.
   *
   * @returns ends the listening
   */
  onEnd(task: string, ended: () => void): () => void {
    const seen = this.#pods.get(task);
    if (seen !== undefined && isEndReported(seen.pod)) {
      queueMicrotask(ended);
      return () => {};
    }
    this.#ends.once(task, ended);
    return () => this.#ends.off(task, ended);
  }

  /** If a pod {@link runsOn}: whether the node's report of its end may still come. */
  isEndDue({ runsOnFromMs = 0 }: SeenPod): boolean {
    return this.#options.clock.nowMs() - runsOnFromMs < endDueMs;
  }

  /** Takes in what a call has answered of a pod, which the watch may not have told yet. */
  note(pod: V1Pod): void {
    const task = taskOf(pod);
    if (!this.#pods.has(task)) {
      this.#pods.set(task, { pod: partsRead(pod), deleted: false, stopped: false });
    }
  }

  /** Takes in what a change of labels and annotations has answered, which the watch tells later. */
  noteMetadata(task: string, metadata: V1ObjectMeta | undefined): void {
    const seen = this.#pods.get(task);
    if (seen !== undefined && metadata !== undefined) {
      const { labels, annotations } = metadata;
      const pod = { ...seen.pod, metadata: { ...seen.pod.metadata, labels, annotations } } as V1Pod;
      this.#pods.set(task, { ...seen, pod });
    }
  }

  /** Notes that a pod is deleted by this backend. @returns false: it was before, or no longer exists */
  noteStop(task: string): boolean {
    const seen = this.#pods.get(task);
    if (seen === undefined || seen.stopped || seen.deleted) {
      return seen === undefined;
    }
    this.#pods.set(task, { ...seen, stopped: true });
    return true;
  }

  /** The deletion has failed: it is asked for again. */
  forgetStop(task: string): void {
    const seen = this.#pods.get(task);
    if (seen !== undefined) {
      this.#pods.set(task, { ...seen, stopped: false });
    }
  }

  async close(): Promise<void> {
    this.#closed.abort(unavailable("the backend is shutting down"));
    this.#inSync.promise.catch(() => {});
    this.#inSync.reject(this.#closed.signal.reason);
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#closed;
    let version: string | undefined;
    for (let failures = 0; !signal.aborted; ) {
      try {
        version ??= await this.#list();
        this.#failure = undefined;
        this.#inSync.resolve();
        version = await this.#watch(version);
        failures = 0;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        version = undefined; // A list has what was missed.
        if (failures++ === 0) {
          logger.warn({ err: error }, `pods are not watched: ${messageOf(error)}`);
        }
        this.#lose(error);
        await clock.sleep(pauseAfter(failures, pauses), signal).catch(() => undefined);
      }
    }
  }

  #lose(error: unknown): void {
    this.#failure = error;
    this.#inSync.promise.catch(() => {});
    this.#inSync.reject(error);
    this.#inSync = Promise.withResolvers();
  }

  /** Lists all pods. @returns the version that the list is of */
  async #list(): Promise<string> {
    const { client, selector: labelSelector, refuse } = this.#options;
    const known = [...this.#pods.keys()]; // A pod that is noted meanwhile may be newer than the list.
    const found = new Map<string, V1Pod>();
    let version = "";
    const pages = client.pages("list pods", (page, options) =>
      client.core.listNamespacedPod({ ...page, labelSelector }, options),
    );
    try {
      for await (const { items, metadata } of pages) {
        for (const pod of items.filter(isOurs)) {
          found.set(taskOf(pod), partsRead(pod));
        }
        version = metadata?.resourceVersion ?? "";
      }
    } catch (error) {
      if (isRefusal(error)) {
        await refuse?.(new Set()); // Another place, rather than a missing right, may be the reason.
      }
      throw error;
    }
    await refuse?.(found);
    for (const pod of found.values()) {
      this.#put(pod, false);
    }
    for (const task of known) {
      const seen = this.#pods.get(task);
      if (seen !== undefined && !seen.deleted && !found.has(task)) {
        this.#put(seen.pod, true);
      }
    }
    return version;
  }

  /** Watches from a version on. @returns the one that it has come to; throws KubernetesError: it has broken */
  async #watch(from: string): Promise<string> {
    const { client, selector: labelSelector } = this.#options;
    const path = `/api/v1/namespaces/${client.namespace}/pods`;
    const query = { labelSelector, resourceVersion: from, allowWatchBookmarks: true };
    let version = from;
    const over = Promise.withResolvers<void>();
    over.promise.catch(() => {}); // Nobody waits for it before the request is answered.
    const hear = (kind: string, pod: V1Pod & { readonly code?: number; readonly message?: string }): void => {
      if (kind === "ERROR") {
        over.reject(
          new KubernetesError(
            "watch pods",
            pod.code === goneStatus ? new Error("410") : new Error(pod.message),
          ),
        );
        return;
      }
      version = pod.metadata?.resourceVersion ?? version;
      if (kind !== "BOOKMARK" && isOurs(pod)) {
        this.#put(withDates(partsRead(pod)), kind === "DELETED");
      }
    };
    const asked = new Watch(client.config).watch(path, query, hear, (error: unknown) => {
      if (error === null || error === undefined || isSilence(error)) {
        over.resolve();
      } else {
        over.reject(new KubernetesError("watch pods", error));
      }
    });
    const request = await unlessAborted(this.#closed.signal, asked).catch((error: unknown) => {
      void asked.then((late) => late.abort()).catch(() => undefined);
      throw error;
    });
    using _leaving = onAbort(this.#closed.signal, () => over.reject(this.#closed.signal.reason));
    try {
      await over.promise;
      return version;
    } finally {
      request.abort();
    }
  }

  #put(pod: V1Pod, deleted: boolean): void {
    const task = taskOf(pod);
    const seen = this.#pods.get(task);
    if (seen?.deleted !== true) {
      const nowMs = this.#options.clock.nowMs();
      const runsOnFromMs = runsOn(pod) ? (seen?.runsOnFromMs ?? nowMs) : undefined;
      this.#pods.set(task, { pod, deleted, stopped: seen?.stopped === true, runsOnFromMs });
      if (deleted) {
        setTimeout(() => this.#pods.delete(task), rememberedMs).unref();
      }
      this.#options.changed(pod);
      if (isEndReported(pod)) {
        this.#ends.emit(task);
      }
    }
  }
}

/** Nothing has come for half a minute: nothing has changed, or the connection is dead. Another is made, from the same place. */
function isSilence(error: unknown): boolean {
  return error instanceof DOMException && error.name === "TimeoutError";
}

/** The selector finds whoever has our labels. */
function isOurs({ metadata }: V1Pod): boolean {
  return isContainersPod(metadata ?? {});
}

function taskOf({ metadata }: V1Pod): string {
  return formatTask({ pod: metadata?.name ?? "", uid: metadata?.uid ?? "" });
}

/** A watch tells times as text, the API's calls as dates. */
function withDates(pod: V1Pod): V1Pod {
  return JSON.parse(JSON.stringify(pod), (key, value: unknown) =>
    typeof value === "string" && /(Timestamp|At|Time)$/.test(key) ? new Date(value) : value,
  ) as V1Pod;
}
