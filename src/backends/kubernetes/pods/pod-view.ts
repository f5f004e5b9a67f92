/** Pods as Kubernetes tells of them. Pure. */
import type { V1ContainerStatus, V1Pod, V1PodSpec } from "@kubernetes/client-node";

import type { TaskView } from "../../cloud/contract/cloud-tasks.ts";
import { type Prospect, quotesRefusal } from "../../cloud/contract/start-prospect.ts";
import {
  containerAnnotation,
  formatAddress,
  formatTask,
  generationAnnotation,
  instanceLabel,
  preparedAnnotation,
  shapeAnnotation,
} from "../names.ts";
import { mainContainerName } from "./pod-spec.ts";

/** Knowledge of a pod beside its description. */
export interface PodKnowledge {
  /** The pod is gone from Kubernetes: this is what was told of it last. */
  readonly deleted: boolean;
  /** This backend has had it deleted. */
  readonly stopped: boolean;
  /** If it {@link runsOn}: the node's report of its end may still come. */
  readonly isEndDue?: boolean;
}

/** Reasons of a container that waits, which do not pass by themselves within a start's time. */
const failedWaits =
  /^(ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|ImageInspectError|CreateContainerConfigError|CreateContainerError|RunContainerError|CrashLoopBackOff)$/;
const pullFailures = /Image/;
/** Reasons of pods that a node, or the cluster, has ended: another pod may fare better. */
const passingEnds =
  /^(Evicted|Preempting|NodeLost|NodeShutdown|Shutdown|Terminated|OutOf\w+|UnexpectedAdmissionError|NodeAffinity)$/;

/** The fields of a pod that are read here: the others, such as mounts and managed fields, may be megabytes. */
export function partsRead({ metadata = {}, spec, status = {} }: V1Pod): V1Pod {
  const { name, uid, labels, annotations } = metadata;
  const { creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds } = metadata;
  const { phase, podIP, reason, message, conditions } = status;
  const main = spec?.containers.find((each) => each.name === mainContainerName);
  const limits = main?.resources?.limits;
  const pod = {
    metadata: {
      ...{ name, uid, labels, annotations },
      ...{ creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds },
    },
    spec: { containers: [{ name: mainContainerName, resources: { limits } }] },
    status: {
      ...{ phase, podIP, reason, message, conditions },
      initContainerStatuses: status.initContainerStatuses?.map(statePart),
      containerStatuses: status.containerStatuses?.map(statePart),
    },
  };
  return pod as V1Pod;
}

function statePart({ name, state }: V1ContainerStatus): Pick<V1ContainerStatus, "name" | "state"> {
  return { name, ...(state === undefined ? {} : { state }) };
}

/** Whether a pod has ended, for whatever reason. */
export function isOver(pod: V1Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed" || isEndReported(pod);
}

/**
 * Whether a pod's node has reported its end: that of main, which is never started again, whatever sidecars do. A pod that
 * Kubernetes has given up may still run.
 */
export function isEndReported(pod: V1Pod): boolean {
  return mainOf(pod)?.state?.terminated !== undefined;
}

/** Whether Kubernetes has given a pod up while its node still reports its container as running. */
export function runsOn(pod: V1Pod): boolean {
  return isOver(pod) && mainOf(pod)?.state?.running !== undefined;
}

/** Reads Kubernetes' description of a pod. */
export function viewOf(pod: V1Pod, { deleted, stopped: isOurs, isEndDue = false }: PodKnowledge): TaskView {
  const { metadata, status, spec } = pod;
  const { name = "", uid = "", labels = {}, annotations = {} } = metadata ?? {};
  const main = mainOf(pod);
  const ended = main?.state?.terminated;
  const over = deleted || isOver(pod);
  const leaving = over || metadata?.deletionTimestamp !== undefined;
  const failed = over ? undefined : failedWait(pod);
  const interruption = isOurs || !leaving ? "" : interruptionOf(pod);
  const reason = failed ?? reasonOf(pod, over, interruption);
  return {
    task: formatTask({ pod: name, uid }),
    status: statusOf(pod),
    isUntold: false,
    stopping: leaving || failed !== undefined,
    stopped: over && (deleted || !isEndDue || !runsOn(pod)),
    isReasonTold: over || failed !== undefined || interruption !== "",
    instance: labels[instanceLabel] === undefined ? "" : `sockerless/${labels[instanceLabel]}`,
    containerId: annotations[containerAnnotation] ?? "",
    generation: BigInt(/^\d+$/.exec(annotations[generationAnnotation] ?? "")?.[0] ?? 0),
    prepared:
      annotations[preparedAnnotation] === undefined
        ? undefined
        : { name: annotations[preparedAnnotation], shape: annotations[shapeAnnotation] ?? "" },
    address:
      main?.state?.running === undefined || !status?.podIP
        ? undefined
        : formatAddress({ pod: name, ip: status.podIP }),
    exitCode: ended?.exitCode,
    outOfMemory:
      ended?.reason === "OOMKilled"
        ? `the container was killed for lack of memory (OOMKilled${limitOf(spec)})`
        : "",
    interruption,
    reason,
    prospect: prospectOf(pod, failed, reason),
    stoppedAt: ended?.finishedAt,
    times: { created: metadata?.creationTimestamp, started: main?.state?.running?.startedAt },
  };
}

function mainOf({ status }: V1Pod): V1ContainerStatus | undefined {
  return status?.containerStatuses?.find((each) => each.name === mainContainerName);
}

/** How a start goes on whose pod has ended, or cannot begin: the reason of an agent that has ended by itself lasts. */
function prospectOf({ status }: V1Pod, failed: string | undefined, reason: string): Prospect {
  if (failed !== undefined) {
    return quotesRefusal(failed) || !pullFailures.test(failed) ? "lasts" : "passes";
  }
  return passingEnds.test(status?.reason ?? "") || disruption(status) !== undefined || quotesNode(reason)
    ? "passes"
    : "lasts";
}

function quotesNode(reason: string): boolean {
  return /\bdeleted in Kubernetes\b/.test(reason);
}

/**
 * The words of a container that waits for what does not come, and keeps main from starting; undefined: none does. While main
 * runs, a failing sidecar does not end the pod.
 */
export function failedWait(pod: V1Pod): string | undefined {
  if (mainOf(pod)?.state?.running !== undefined) {
    return undefined;
  }
  for (const { name, state } of statusesOf(pod.status)) {
    const { reason = "", message = "" } = state?.waiting ?? {};
    if (failedWaits.test(reason)) {
      const of = name === mainContainerName ? "" : ` (${name})`;
      return message === "" || message === reason ? `${reason}${of}` : `${message} (${reason}${of})`;
    }
  }
  return undefined;
}

/** The statuses of all of a pod's containers. */
export function statusesOf(status: V1Pod["status"]): readonly V1ContainerStatus[] {
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
}

/** The status for users: the phase, and what is waited for. */
function statusOf({ metadata, status }: V1Pod): string {
  const phase = metadata?.deletionTimestamp === undefined ? (status?.phase ?? "Pending") : "Terminating";
  const waiting = statusesOf(status).find(({ state }) => state?.waiting?.reason !== undefined)?.state
    ?.waiting;
  const unscheduled = status?.conditions?.find(
    ({ type, status: isTrue }) => type === "PodScheduled" && isTrue === "False",
  );
  const why =
    unscheduled === undefined
      ? [waiting?.reason, waiting?.message]
      : [unscheduled.reason, unscheduled.message];
  const words = why.filter((each) => each !== undefined && each !== "").join(": ");
  return words === "" || phase === "Running" ? phase : `${phase} (${words})`;
}

function disruption(status: V1Pod["status"]) {
  return status?.conditions?.find((each) => each.type === "DisruptionTarget" && each.status === "True");
}

/** Words for what Kubernetes, or somebody in it, has done to a pod; empty: its container has ended by itself. */
function interruptionOf(pod: V1Pod): string {
  const { metadata, status } = pod;
  const disrupted = disruption(status);
  const told = [
    status?.reason ?? disrupted?.reason ?? "",
    status?.message ?? disrupted?.message ?? "",
  ].filter((each) => each !== "");
  if (told.length > 0) {
    return `the pod was ended by Kubernetes: ${told.join(": ")}`;
  }
  const wasDeletedBefore = metadata?.deletionTimestamp !== undefined && !hasEndedBeforeDeletion(pod);
  return wasDeletedBefore ? "the pod was deleted in Kubernetes" : "";
}

/**
 * Whether a pod had ended when its deletion was requested. The times are in whole seconds, of the node's clock and the API
 * server's: an end in the same second counts as one by the deletion.
 */
function hasEndedBeforeDeletion(pod: V1Pod): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = pod.metadata ?? {};
  const endedMs = mainOf(pod)?.state?.terminated?.finishedAt?.getTime();
  if (deletionTimestamp === undefined || endedMs === undefined) {
    return isOver(pod);
  }
  return endedMs < deletionTimestamp.getTime() - deletionGracePeriodSeconds * 1000;
}

/** Everything that Kubernetes says of a pod's end. */
function reasonOf({ status }: V1Pod, over: boolean, interruption: string): string {
  if (!over) {
    return interruption;
  }
  const ends = statusesOf(status).flatMap(({ name, state }) => {
    const { exitCode = 0, reason = "", message = "" } = state?.terminated ?? {};
    if (exitCode === 0) {
      return [];
    }
    const who = name === mainContainerName ? "the agent" : `the container ${name}`;
    const words = [reason, message].filter((each) => each !== "" && each !== "Error").join(": ");
    return [`${who} ended with exit code ${exitCode}${words === "" ? "" : ` (${words})`}`];
  });
  const all = [interruption, ...ends].filter((each) => each !== "");
  return all.length > 0 ? all.join("; ") : `the pod has ended (${status?.phase ?? "deleted"})`;
}

function limitOf(spec: V1PodSpec | undefined): string {
  const limits = spec?.containers.find(({ name }) => name === mainContainerName)?.resources?.limits;
  return limits?.["memory"] === undefined ? "" : `, its limit is ${limits["memory"]}`;
}
