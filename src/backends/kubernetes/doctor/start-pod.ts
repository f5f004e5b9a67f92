/** A check of `sockerless doctor --start-pod`: a pod as containers get it, which is deleted at once. */
import type { V1ContainerStatus, V1Pod } from "@kubernetes/client-node";

import { ok, type Result, wrong } from "../../../common/finding.ts";
import { isMissing, KubernetesError } from "../api/errors.ts";
import { mainContainerName } from "../pods/pod-spec.ts";
import { statusesOf } from "../pods/pod-view.ts";
import { DoctorPod, type DoctorSurroundings } from "./doctor-pod.ts";

/** Reasons for which a container waits, and goes on waiting. */
const lasting: ReadonlySet<string> = new Set([
  ...["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"],
  ...["CreateContainerError", "RunContainerError", "CrashLoopBackOff"],
]);

/** Starts a pod, waits until its agent runs, and deletes it. */
export async function startPod(around: DoctorSurroundings, signal: AbortSignal): Promise<Result> {
  try {
    await using pod = await DoctorPod.make(around, {}, signal);
    const result = await pod.until(startOf, signal);
    return result ?? wrong(`no pod starts within ${pod.seconds} s: ${waitOf(pod.last)}`);
  } catch (error) {
    if (isMissing(error)) {
      return wrong("the pod was deleted by somebody else before it ran");
    }
    if (error instanceof KubernetesError && error.prospect === "lasts") {
      return wrong(`Kubernetes makes no pod: ${error.message}`);
    }
    throw error;
  }
}

/** The start of a pod; undefined while it may still go well. */
export function startOf({ spec, status }: V1Pod, seconds: number): Result | undefined {
  const containers = statusesOf(status);
  if (containers.some(({ name, state }) => name === mainContainerName && state?.running !== undefined)) {
    return ok(`it ran on ${spec?.nodeName} after ${seconds} s`);
  }
  if (status?.phase === "Failed" || status?.phase === "Succeeded") {
    return wrong(`the agent did not run on ${spec?.nodeName}: ${endOf(status, containers)}`);
  }
  const stuck = containers.find(({ state }) => lasting.has(state?.waiting?.reason ?? ""));
  return stuck === undefined ? undefined : wrong(`no pod starts: ${waitingOf(stuck)}`);
}

function endOf(
  { reason, message }: NonNullable<V1Pod["status"]>,
  containers: readonly V1ContainerStatus[],
): string {
  const told = containers.flatMap(({ name, state }) =>
    state?.terminated === undefined || state.terminated.exitCode === 0
      ? []
      : [`container ${name} ended with code ${state.terminated.exitCode} ${state.terminated.message ?? ""}`],
  );
  return (
    [reason, message, ...told]
      .filter((text) => (text ?? "") !== "")
      .join(": ")
      .trim() || "it ended"
  );
}

function waitingOf({ image, state }: V1ContainerStatus): string {
  const { reason, message } = state?.waiting ?? {};
  return [reason, message ?? image].join(": ");
}

/** Tells what a pod waits for, in Kubernetes' words. */
function waitOf({ status }: V1Pod): string {
  const unscheduled = status?.conditions?.find(
    ({ type, status: is }) => type === "PodScheduled" && is === "False",
  );
  const waiting = statusesOf(status).find(({ state }) => state?.waiting !== undefined);
  return unscheduled !== undefined
    ? `${unscheduled.reason}: ${unscheduled.message}`
    : waiting === undefined
      ? (status?.phase ?? "unknown")
      : waitingOf(waiting);
}
