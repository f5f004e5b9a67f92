/** Containers' tasks: pods of one namespace. */
import { hostname } from "node:os";

import type { V1Pod } from "@kubernetes/client-node";

import { unavailable } from "../../../common/errors.ts";
import type { CloudTasks, DescribedTasks, TaskAnswer, TaskView } from "../../cloud/contract/cloud-tasks.ts";
import { type KubernetesClient, withBody } from "../api/client.ts";
import { isConflict, isMissing, KubernetesError } from "../api/errors.ts";
import {
  containerAnnotation,
  formatTask,
  generationAnnotation,
  parseTask,
  preparedAnnotation,
} from "../names.ts";
import { OtherPlace } from "../own-pods.ts";
import { parseRequest } from "./pod-requests.ts";
import { isOver, viewOf } from "./pod-view.ts";
import type { PodWatch } from "./pod-watch.ts";

/** Parts of {@link podTasks}. */
export interface PodTasksOptions {
  readonly client: KubernetesClient;
  readonly watch: PodWatch;
  /** Makes deleted policies of a pod's networks again before it is made. */
  readonly ensurePolicies?: (labels: Readonly<Record<string, string>>) => Promise<void>;
}

/** How many tasks one look tells of: it makes no call. */
const describedAtOnce = 10_000;

/** The pods of a namespace. Every call throws KubernetesError, or OtherPlace. */
export function podTasks({ client, watch, ensurePolicies }: PodTasksOptions): CloudTasks {
  const { core, namespace } = client;
  const find = async (name: string): Promise<V1Pod> =>
    await client.call("get pods", (options) => core.readNamespacedPod({ name, namespace }, options));

  return {
    names: {
      service: "Kubernetes",
      run: "create pods",
      place: "namespace",
      log: "the pod's log",
      section: "kubernetes",
    },
    describedAtOnce,
    tellsPhases: false,

    async run(request, signal): Promise<TaskAnswer> {
      const body = parseRequest(request);
      const refusal = await refusalOf(watch, signal);
      if (refusal !== undefined) {
        return { reason: refusal.message, cause: refusal, prospect: "lasts" };
      }
      try {
        await ensurePolicies?.(body.metadata?.labels ?? {});
        const pod = await client
          .call("create pods", (options) =>
            core.createNamespacedPod({ namespace, body }, withBody(options, body)),
          )
          .catch(async (error: unknown) => {
            const found = isConflict(error) ? await find(body.metadata?.name ?? "") : undefined;
            if (found === undefined || !isSameStart(found, body)) {
              throw error;
            }
            return found;
          });
        watch.note(pod);
        return { task: formatTask({ pod: pod.metadata?.name ?? "", uid: pod.metadata?.uid ?? "" }) };
      } catch (error) {
        if (error instanceof KubernetesError) {
          return { reason: error.message, cause: error, prospect: error.prospect };
        }
        throw error;
      }
    },

    async stop(task) {
      if (!watch.noteStop(task)) {
        return; // It is being deleted, in the time that it has for that.
      }
      const { pod: name, uid } = parseTask(task);
      try {
        await client.call("delete pods", (options) =>
          core.deleteNamespacedPod({ name, namespace, body: { preconditions: { uid } } }, options),
        );
      } catch (error) {
        const isThere = !isMissing(error) && !isConflict(error);
        const refusal = isThere ? undefined : await refusalOf(watch, client.abandoned);
        if (isThere || refusal?.isElsewhere === true) {
          watch.forgetStop(task);
          throw refusal ?? error;
        }
      }
    },

    onEnd: (task, ended) => watch.onEnd(task, ended),

    async describe(tasks, signal): Promise<DescribedTasks> {
      const pods = await watch.pods(signal).catch((error: unknown) => {
        // As no refusal, after which a silent pod is deleted in time: by then the credentials may be taken again.
        throw error instanceof KubernetesError && error.status === 401
          ? unavailable(error.message, error)
          : error;
      });
      const views: TaskView[] = [];
      const missing: string[] = [];
      for (const task of tasks) {
        const seen = pods.get(task);
        if (seen === undefined) {
          missing.push(task);
        } else {
          views.push(viewOf(seen.pod, { ...seen, isEndDue: watch.isEndDue(seen) }));
        }
      }
      return { views, missing };
    },

    async listOwn() {
      const pods = await watch.pods(client.abandoned);
      return [...pods].filter(([, { pod, deleted }]) => !deleted && !isOver(pod)).map(([task]) => task);
    },

    async isAnyRunning() {
      const others = client.isInCluster ? `,metadata.name!=${hostname()}` : ""; // This backend's own pod makes no room.
      const fieldSelector = `status.phase=Running${others}`;
      const { items } = await client.call("list pods", (options) =>
        core.listNamespacedPod({ namespace, fieldSelector, limit: 1 }, options),
      );
      return items.length > 0;
    },

    logStreamOf: (task) => parseTask(task).pod,
    grantDelayMs: 0, // A right holds as soon as it is given.
  };
}

/** The refusal of a place that is not the state's. A watch that is broken knows of none, and keeps no call from being made. */
async function refusalOf(watch: PodWatch, signal: AbortSignal): Promise<OtherPlace | undefined> {
  try {
    await watch.pods(signal);
  } catch (error) {
    return error instanceof OtherPlace ? error : undefined;
  }
  return undefined;
}

function isSameStart(one: V1Pod, other: V1Pod): boolean {
  return [containerAnnotation, generationAnnotation, preparedAnnotation].every(
    (name) => one.metadata?.annotations?.[name] === other.metadata?.annotations?.[name],
  );
}
