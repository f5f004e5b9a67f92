/**
 * Services of published ports (`kubernetes.services`), for clients in the cluster. Each belongs to its container's pod, with
 * which Kubernetes deletes it: somebody else's Service is never taken for one. Nothing waits for one; what Kubernetes refuses
 * is logged.
 */
import { PatchStrategy, setHeaderOptions, type V1Pod, type V1Service } from "@kubernetes/client-node";

import type { Clock } from "../../common/clock.ts";
import { ignoring, messageOf } from "../../common/errors.ts";
import { isFullId, shortId } from "../../common/ids.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import { pauseAfter } from "../../common/pauses.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ServiceDiscovery } from "../cloud/contract/service-discovery.ts";
import { wantedPorts } from "../model/ports.ts";
import type { CallOptions, KubernetesClient } from "./api/client.ts";
import { isConflict, isMissing, KubernetesError } from "./api/errors.ts";
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
const dnsName = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
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
    if (body !== undefined) {
      await make(body, signal);
    }
  };

  /** Makes a Service; one that a former container of that name has left leads to this one. @throws KubernetesError */
  const make = async (body: V1Service, signal: AbortSignal): Promise<void> => {
    for (;;) {
      try {
        const created = (given: CallOptions) => core.createNamespacedService({ namespace, body }, given);
        await client.call("create services", created, signal);
        return;
      } catch (error) {
        if (!isConflict(error)) {
          throw error;
        }
        const name = body.metadata?.name ?? "";
        const read = (given: CallOptions) => core.readNamespacedService({ name, namespace }, given);
        const found = await client.call("get services", read, signal).catch(unlessChanged);
        if (found !== undefined && !isMadeBy(instance, found)) {
          throw error;
        }
        if (found !== undefined && (await redirect(found, body, signal))) {
          return;
        }
      }
    }
  };

  /** Has a Service be another, if it is as it was found; false: it is not. @throws KubernetesError */
  const redirect = async (found: V1Service, wanted: V1Service, signal: AbortSignal): Promise<boolean> => {
    const { name = "", resourceVersion = "" } = found.metadata ?? {};
    const body = { ...wanted, metadata: { ...wanted.metadata, resourceVersion } };
    const patched = (given: CallOptions) =>
      core.patchNamespacedService(
        { name, namespace, body },
        setHeaderOptions("Content-Type", PatchStrategy.MergePatch, given),
      );
    return (await client.call("patch services", patched, signal).catch(unlessChanged)) !== undefined;
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

/** Handles the failure of a call because what it names is gone, or has changed. @throws KubernetesError */
const unlessChanged = ignoring((error) => isMissing(error) || isConflict(error));

/** Prefix of names by containers' IDs, which no container's own name may take from another. */
const idPrefix = "sockerless-";

/** The name of a container's Service. */
function serviceName(containerId: string, name: string): string {
  return dnsName.test(name) && !name.startsWith(idPrefix) ? name : `${idPrefix}${shortId(containerId)}`;
}

/**
 * Whether an instance has made a Service: it is named after the container that its annotations tell of. Anybody's may have our
 * labels, by a copied template.
 */
function isMadeBy(instance: string, { metadata }: V1Service): boolean {
  const { name, labels = {}, annotations = {} } = metadata ?? {};
  const containerId = annotations[containerAnnotation] ?? "";
  return (
    labels[instanceLabel] === instanceValue(instance) &&
    isFullId(containerId) &&
    name === serviceName(containerId, annotations[nameAnnotation] ?? "")
  );
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
      name: serviceName(record.id, record.name),
      namespace,
      labels: own,
      annotations: { [containerAnnotation]: record.id, [nameAnnotation]: record.name },
      ownerReferences: [{ apiVersion: "v1", kind: "Pod", name: podName, uid }],
    },
    spec: { selector: own, ports: [...ports.values()] },
  };
}
