/** Names, labels and annotations of what this backend makes in a cluster. */
import { createHash } from "node:crypto";

import type { V1ObjectMeta } from "@kubernetes/client-node";

import { isFullId, shortId } from "../../common/ids.ts";

/** The label that names the instance of sockerless that made something: 16 hexadecimal digits. */
export const instanceLabel = "sockerless/instance";
/** The label with the short ID of a container: labels have 63 characters at most. */
export const containerLabel = "sockerless/container";
/** The annotation with the whole ID of a container. */
export const containerAnnotation = "sockerless/container-id";
/** The annotation with the generation of the start that a pod is for, decimal. */
export const generationAnnotation = "sockerless/generation";
/** The annotation with the name that users know a container by. */
export const nameAnnotation = "sockerless/name";

/** The annotation with the name under which a prepared pod's agent waits, which has 64 hexadecimal digits. */
export const preparedAnnotation = "sockerless/prepared";
/** The annotation with the shape of a prepared pod. */
export const shapeAnnotation = "sockerless/shape";

/** Whether a label or annotation is of one container's pod alone. */
export function isOfContainer(key: string): boolean {
  return key.startsWith("sockerless/") && key !== instanceLabel;
}

/** Digits of a hash that tells names apart. */
const hashDigits = 6;

/** The value of {@link instanceLabel}. @param instance `sockerless/<hex>` */
export function instanceValue(instance: string): string {
  return instance.replace(/^.*\//, "");
}

/** The name of the pod of one start of a container. */
export function podNameOf(containerId: string, generation: bigint): string {
  return `sockerless-${shortId(containerId)}-${generation}`;
}

/** The name of the pod that follows one which has ended before its agent answered. */
export function nextPodName(name: string, last: string): string {
  const hash = createHash("sha256").update(`${name}:${last}`).digest("hex").slice(0, hashDigits);
  return `${firstPodName(name)}-x${hash}`;
}

/** The name of a prepared pod, which is nothing of the agent's: its container sees it. */
export function preparedPodName(prepared: string): string {
  return podNameOf(createHash("sha256").update(prepared).digest("hex"), 0n);
}

function firstPodName(name: string): string {
  return name.replace(/-x[0-9a-f]+$/, "");
}

/**
 * Whether sockerless has made a pod for a container: it is named after the start, or the preparation, that its annotations tell of.
 * Anybody's pod may have our labels, by a copied template.
 */
export function isContainersPod({ name = "", annotations = {} }: V1ObjectMeta): boolean {
  const prepared = annotations[preparedAnnotation];
  if (prepared !== undefined) {
    return isFullId(prepared) && preparedPodName(prepared) === name;
  }
  const containerId = annotations[containerAnnotation] ?? "";
  const generation = annotations[generationAnnotation] ?? "";
  return (
    isFullId(containerId) &&
    /^[0-9]{1,18}$/.test(generation) &&
    podNameOf(containerId, BigInt(generation)) === firstPodName(name)
  );
}

/** A task: a pod, as the books name it. Another pod of the same name has another UID. */
export interface PodTask {
  readonly pod: string;
  readonly uid: string;
}

/** As {@link parseTask} reads it. */
export function formatTask({ pod, uid }: PodTask): string {
  return `${pod}/${uid}`;
}

/** Reads what {@link formatTask} wrote. */
export function parseTask(task: string): PodTask {
  const [pod = "", uid = ""] = task.split("/");
  return { pod, uid };
}

/** A pod's address: the pod's name, by which it is reached through the API server, and its IP. */
export interface PodAddress {
  readonly pod: string;
  readonly ip: string;
}

/** As {@link parseAddress} reads it. */
export function formatAddress({ pod, ip }: PodAddress): string {
  return `${pod}/${ip}`;
}

/** Reads what {@link formatAddress} wrote. */
export function parseAddress(address: string): PodAddress {
  const [pod = "", ip = ""] = address.split("/");
  return { pod, ip };
}
