/**
 * Services of published ports (`kubernetes.services`), for clients in the cluster. Each belongs to its container's pod, with
 * which Kubernetes deletes it. Nothing waits for one; what Kubernetes refuses is logged.
 */
import { PatchStrategy, setHeaderOptions, type V1Pod, type V1Service } from "@kubernetes/client-node";

import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import { pauseAfter } from "../../common/pauses.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ServiceDiscovery } from "../cloud/contract/service-discovery.ts";
import { wantedPorts } from "../model/ports.ts";
import { type CallOptions, type KubernetesClient, withBody } from "./api/client.ts";
import { KubernetesError } from "./api/errors.ts";
import {
  containerAnnotation,
  containerLabel,
  instanceLabel,
  instanceValue,
  nameAnnotation,
} from "./names.ts";
import type { PodWatch } from "./pods/pod-watch.ts";

/** Parts of {@link kubernetesServices}. */
export interface KubernetesServicesOptions {
  readonly client: KubernetesClient;
  readonly watch: Pick<PodWatch, "pods">;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** A container's record; undefined: there is none. */
  readonly recordOf: (containerId: string) => ContainerRecord | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Names that Services may have: they are hosts of the cluster's DNS. */
const serviceName = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const loopback = /^(127\.|::1$)/;
const pauses = { firstMs: 1_000, longestMs: 60_000 };

/** Makes the Services. */
export function kubernetesServices(options: KubernetesServicesOptions): ServiceDiscovery {
  const { client, watch, instance, recordOf, clock } = options;
  const { core, namespace } = client;
  const logger = componentLogger(options.logger, "services");
  const closed = new AbortController();
  const wanted = new Map<string, AbortController>();
  const work = new Set<Promise<void>>();

  const apply = async (record: ContainerRecord, signal: AbortSignal): Promise<void> => {
    const pods = [...(await watch.pods(signal)).values()].filter(
      ({ pod, deleted }) => !deleted && pod.metadata?.annotations?.[containerAnnotation] === record.id,
    );
    const pod = pods.at(-1)?.pod;
    const body = pod === undefined ? undefined : serviceOf(record, pod, { namespace, instance });
    const name = body?.metadata?.name;
    if (body === undefined || name === undefined) {
      return;
    }
    const applied = (given: CallOptions): CallOptions =>
      withBody(setHeaderOptions("Content-Type", PatchStrategy.ServerSideApply, given), body);
    await client.call(
      "patch services",
      (given) =>
        core.patchNamespacedService(
          { name, namespace, body, fieldManager: `sockerless-${instanceValue(instance)}` },
          applied(given),
        ),
      signal,
    );
  };

  const keepAsking = async (record: ContainerRecord, signal: AbortSignal): Promise<void> => {
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        await apply(record, signal);
        return;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        const isRefused = error instanceof KubernetesError && error.outcome === "refused";
        logger[isRefused ? "warn" : "debug"](
          { container: record.id, err: error },
          `no Service of the container's ports: ${messageOf(error)}`,
        );
        if (isRefused) {
          return;
        }
        await clock.sleep(pauseAfter(failures, pauses), signal).catch(() => undefined);
      }
    }
  };

  const want = (record: ContainerRecord): void => {
    wanted.get(record.id)?.abort();
    const withdrawn = new AbortController();
    wanted.set(record.id, withdrawn);
    const asking = keepAsking(record, AbortSignal.any([withdrawn.signal, closed.signal]));
    work.add(asking);
    void asking.finally(() => work.delete(asking));
  };

  return {
    announce: want,
    withdraw(containerId, networkId) {
      if (networkId === undefined) {
        wanted.get(containerId)?.abort();
        wanted.delete(containerId);
      }
    },
    forgetNetwork() {},
    reconcile(running) {
      for (const record of [...running].map(recordOf)) {
        if (record !== undefined && !wanted.has(record.id)) {
          want(record);
        }
      }
    },
    async close() {
      closed.abort();
      await Promise.all(work);
    },
  };
}

/** The Service of a container's published ports, but for those of loopback addresses; undefined: there are none. */
export function serviceOf(
  record: ContainerRecord,
  pod: Pick<V1Pod, "metadata">,
  { namespace, instance }: { readonly namespace: string; readonly instance: string },
): V1Service | undefined {
  const ports = new Map(
    wantedPorts(record)
      .filter(({ hostIp }) => !loopback.test(hostIp))
      .map(({ containerPort, protocol, hostPort }) => {
        const port = hostPort || containerPort;
        const name = `${protocol}-${port}`;
        return [name, { name, port, targetPort: containerPort, protocol: protocol.toUpperCase() }] as const;
      }),
  );
  if (ports.size === 0) {
    return undefined;
  }
  const own = { [instanceLabel]: instanceValue(instance), [containerLabel]: shortId(record.id) };
  const { name: podName = "", uid = "" } = pod.metadata ?? {};
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: serviceName.test(record.name) ? record.name : `sockerless-${shortId(record.id)}`,
      namespace,
      labels: own,
      annotations: { [containerAnnotation]: record.id, [nameAnnotation]: record.name },
      ownerReferences: [{ apiVersion: "v1", kind: "Pod", name: podName, uid }],
    },
    spec: { selector: own, ports: [...ports.values()] },
  };
}
