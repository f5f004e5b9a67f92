/** Pods that wait for containers: their annotations tell that, and whose they are. */
import type { V1Container, V1ObjectMeta, V1Pod } from "@kubernetes/client-node";

import { preparedEnvironment, variablesOfStart } from "../../cloud/agents/agent-environment.ts";
import type { PreparedTasks } from "../../cloud/contract/prepared-tasks.ts";
import { differing, type Parts, shapeOf } from "../../cloud/ready-made/request-shapes.ts";
import type { KubernetesClient } from "../api/client.ts";
import { isConflict } from "../api/errors.ts";
import * as names from "../names.ts";
import { numberIn } from "../quantities.ts";
import { parseRequest } from "./pod-requests.ts";
import type { PodWatch } from "./pod-watch.ts";

/** Parts of {@link preparedPods}. */
export interface PreparedPodsOptions {
  readonly client: KubernetesClient;
  readonly watch: Pick<PodWatch, "noteMetadata">;
  /** Whether anonymous volumes are claims, and not directories of pods. */
  readonly claimAnonymous: boolean;
}

/** Prepared tasks. Claims throw KubernetesError. */
export function preparedPods({ client, watch, claimAnonymous }: PreparedPodsOptions): PreparedTasks {
  const { core, namespace } = client;

  return {
    isMadeWith: { networks: false, anonymousVolumes: claimAnonymous },
    shapeOf: (request) => shapeOf(shared(request)),
    differences: (request, other) => differing(parts, shared(request), shared(other)),
    sizeOf(request) {
      const { requests, limits } = mainOf(parseRequest(request))?.resources ?? {};
      const of = (name: string): number => numberIn(requests?.[name] ?? limits?.[name] ?? "");
      return { vcpus: of("cpu"), gib: of("memory") / 1024 ** 3 };
    },
    prepare(request, preparation) {
      const pod = shared(request);
      const annotations = {
        ...pod.metadata?.annotations,
        [names.preparedAnnotation]: preparation.name,
        [names.shapeAnnotation]: preparation.shape,
      };
      const metadata = { ...pod.metadata, name: names.preparedPodName(preparation.name), annotations };
      const own = withEnvironment(pod, (variables) => preparedEnvironment(variables, preparation));
      return JSON.stringify({ ...own, metadata });
    },
    async claim(task, { containerId, request }, signal) {
      const { pod: name } = names.parseTask(task);
      const { labels, annotations } = parseRequest(request).metadata ?? {};
      for (;;) {
        signal.throwIfAborted();
        const { metadata } = await client.call(
          "get pods",
          (options) => core.readNamespacedPod({ name, namespace }, options),
          signal,
        );
        const owner = metadata?.annotations?.[names.containerAnnotation] ?? containerId;
        if (names.formatTask({ pod: name, uid: metadata?.uid ?? "" }) !== task || owner !== containerId) {
          throw new Error(`the pod ${name} is another, or another container's`);
        }
        const body = [
          { op: "replace", path: "/metadata/resourceVersion", value: metadata?.resourceVersion },
          { op: "add", path: "/metadata/labels", value: { ...metadata?.labels, ...labels } },
          { op: "add", path: "/metadata/annotations", value: { ...metadata?.annotations, ...annotations } },
        ];
        try {
          const claimed = await client.call(
            "patch pods",
            (options) => core.patchNamespacedPod({ name, namespace, body }, options),
            signal,
          );
          watch.noteMetadata(task, claimed.metadata);
          return;
        } catch (error) {
          if (!isConflict(error)) {
            throw error; // Else the pod has changed since it was read.
          }
        }
      }
    },
  };
}

/** Parts of a pod by the name that docs/backends/kubernetes.md gives them. */
const parts: Parts<V1Pod> = {
  "the image": (pod) => mainOf(pod)?.image,
  "CPU and memory": (pod) => mainOf(pod)?.resources,
  "volumes, tmpfs, --shm-size or mounts of images": ({ spec }) => [
    ...[spec?.volumes, spec?.containers[0]?.volumeMounts],
    spec?.initContainers?.map(({ args }) => args),
  ],
  "--log-opt": (pod) => mainOf(pod)?.env,
  "--sysctl": ({ spec }) => spec?.securityContext,
  "--stop-timeout": ({ spec }) => spec?.terminationGracePeriodSeconds,
  "--read-only, capabilities or the user": (pod) => mainOf(pod)?.securityContext,
};

function mainOf({ spec }: V1Pod): V1Container | undefined {
  return spec?.containers[0];
}

/** A pod without what is of one start alone. */
function shared(request: string): V1Pod {
  const { metadata, spec, ...pod } = parseRequest(request);
  if (spec === undefined) {
    return pod;
  }
  const { hostname: _hostname, ...rest } = spec;
  return withEnvironment({ ...pod, metadata: sharedMetadata(metadata), spec: rest }, (own) =>
    own.filter(({ name }) => !variablesOfStart.has(name)),
  );
}

function sharedMetadata({ name: _name, labels, annotations, ...metadata }: V1ObjectMeta = {}): V1ObjectMeta {
  const without = (all: Readonly<Record<string, string>> = {}): Record<string, string> =>
    Object.fromEntries(Object.entries(all).filter(([key]) => !names.isOfContainer(key)));
  return { ...metadata, labels: without(labels), annotations: without(annotations) };
}

type Environment = NonNullable<V1Container["env"]>;

function withEnvironment(pod: V1Pod, change: (environment: Environment) => Environment): V1Pod {
  const [main, ...others] = pod.spec?.containers ?? [];
  return pod.spec === undefined || main === undefined
    ? pod
    : {
        ...pod,
        spec: { ...pod.spec, containers: [{ ...main, env: change(main.env ?? []) }, ...others] },
      };
}
