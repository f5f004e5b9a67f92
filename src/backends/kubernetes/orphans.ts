/** `sockerless gc`: what sockerless has made in a namespace and nobody's state knows. */
import type { KubernetesConfig } from "../../common/config/load.ts";
import { ignoring } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import { orphanedImages } from "../cloud/orphans/images.ts";
import type { Known, Orphan } from "../cloud/orphans/orphan.ts";
import { collectOrphans, type CollectRequest, type SearchSurroundings } from "../cloud/orphans/collect.ts";
import { registryOptions } from "../server/serve-engine.ts";
import { forwardedAgents } from "./agents.ts";
import { type CallOptions, KubernetesClient } from "./api/client.ts";
import { isMissing } from "./api/errors.ts";
import { kubernetesRepository } from "./images.ts";
import { containerAnnotation, instanceLabel, instanceValue, isContainersPod } from "./names.ts";
import { networkOf } from "./networks/policy.ts";
import { podTasks } from "./pods/pods.ts";
import { isOver } from "./pods/pod-view.ts";
import { PodWatch } from "./pods/pod-watch.ts";
import { claimName, formatClaim, volumeOf } from "./volumes/claim.ts";

/** Looks for orphans in the namespace: see {@link collectOrphans}. */
export async function collect(config: KubernetesConfig, request: CollectRequest): Promise<void> {
  await collectOrphans(
    config,
    config.kubernetes.agentCa,
    (surroundings) => {
      const { authority, clock, logger } = surroundings;
      const client = new KubernetesClient(config.kubernetes, clock);
      const watches: PodWatch[] = [];
      return {
        tasksOf(instance) {
          const selector = `${instanceLabel}=${instanceValue(instance)}`;
          const watch = new PodWatch({ client, selector, changed() {}, clock, logger });
          watches.push(watch);
          return podTasks({ client, watch });
        },
        finder: forwardedAgents({ client, authority, clock }),
        orphans: (known) => findOrphans(config, client, surroundings, known),
        close() {
          client.abandon();
          for (const watch of watches) {
            void watch.close();
          }
        },
      };
    },
    request,
  );
}

async function findOrphans(
  config: KubernetesConfig,
  client: KubernetesClient,
  { instance: own }: SearchSurroundings,
  known: Known,
): Promise<Orphan[]> {
  const repository = kubernetesRepository({
    config: config.kubernetes,
    registry: registryOptions(config),
    workDirectory: config.stateDir,
    instance: own,
  });
  return [
    ...(await orphanedObjects(client, own, known)),
    ...(repository === undefined ? [] : await orphanedImages(repository, own, known)),
  ];
}

/**
 * The pods, claims and policies in the namespace that sockerless has made and an instance's state does not know. Labels, which
 * anybody's objects may have, prove nothing: their names do.
 *
 * @param own name of that instance
 * @throws KubernetesError
 */
export async function orphanedObjects(
  client: KubernetesClient,
  own: string,
  known: Known,
): Promise<Orphan[]> {
  return [
    ...(await endedPods(client, own, known)),
    ...(await orphanedClaims(client, own, known)),
    ...(await orphanedPolicies(client, own, known)),
  ];
}

/** Pods that have ended, and those of other instances. */
async function endedPods(client: KubernetesClient, own: string, known: Known): Promise<Orphan[]> {
  const { core, namespace } = client;
  const { items } = await client.call("list pods", (options) =>
    core.listNamespacedPod({ namespace, labelSelector: instanceLabel }, options),
  );
  return items.flatMap((pod) => {
    if (!isContainersPod(pod.metadata ?? {})) {
      return [];
    }
    const { name = "", labels = {}, annotations = {} } = pod.metadata ?? {};
    const containerId = annotations[containerAnnotation] ?? "";
    const instance = `sockerless/${labels[instanceLabel]}`;
    if (instance === own && (!isOver(pod) || known.hasContainer(containerId))) {
      return [];
    }
    const purpose = containerId === "" ? "prepared for a container" : `container ${shortId(containerId)}`;
    const remove = (options: CallOptions) => core.deleteNamespacedPod({ name, namespace }, options);
    return [orphan(client, { kind: "pod", id: name, purpose, instance }, remove)];
  });
}

/** Claims of volumes, with all that is in them where their storage class deletes it. */
async function orphanedClaims(client: KubernetesClient, own: string, known: Known): Promise<Orphan[]> {
  const { core, namespace } = client;
  const { items } = await client.call("list persistentvolumeclaims", (options) =>
    core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector: instanceLabel }, options),
  );
  return items.flatMap((claim) => {
    const { name = "", labels = {} } = claim.metadata ?? {};
    const instance = `sockerless/${labels[instanceLabel]}`;
    const volume = volumeOf(claim, { namespace, instance });
    const isKnown = instance === own && known.hasVolume(formatClaim({ namespace, claim: name }));
    const isOurs = volume !== undefined && claimName(volume, instance) === name;
    if (!isOurs || isKnown) {
      return [];
    }
    const remove = (options: CallOptions) =>
      core.deleteNamespacedPersistentVolumeClaim({ name, namespace }, options);
    const purpose = `volume ${volume.name}`;
    return [orphan(client, { kind: "persistentvolumeclaim", id: name, purpose, instance }, remove)];
  });
}

/** Policies of networks. */
async function orphanedPolicies(client: KubernetesClient, own: string, known: Known): Promise<Orphan[]> {
  const { networking, namespace } = client;
  const { items } = await client.call("list networkpolicies", (options) =>
    networking.listNamespacedNetworkPolicy({ namespace, labelSelector: instanceLabel }, options),
  );
  return items.flatMap((policy) => {
    const { name = "", labels = {} } = policy.metadata ?? {};
    const instance = `sockerless/${labels[instanceLabel]}`;
    const network = networkOf(policy)?.network;
    if (network === undefined || (instance === own && known.hasNetwork(network.id))) {
      return [];
    }
    const remove = (options: CallOptions) =>
      networking.deleteNamespacedNetworkPolicy({ name, namespace }, options);
    const purpose = `network ${network.name}`;
    return [orphan(client, { kind: "networkpolicy", id: name, purpose, instance }, remove)];
  });
}

function orphan(
  client: KubernetesClient,
  about: Omit<Orphan, "remove">,
  remove: (options: CallOptions) => Promise<unknown>,
): Orphan {
  return {
    ...about,
    async remove() {
      await client.call(`delete ${about.kind}s`, remove).catch(ignoring(isMissing));
      return undefined;
    },
  };
}
