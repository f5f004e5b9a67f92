/** The check of `sockerless doctor --start-pod`: a pod as containers get it, which is deleted at once. */
import { randomBytes } from "node:crypto";

import type { V1ContainerStatus, V1Pod } from "@kubernetes/client-node";

import { systemClock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { ok, type Result, wrong } from "../../../common/finding.ts";
import type { Logger } from "../../../common/logger.ts";
import { type KubernetesClient, withBody } from "../api/client.ts";
import { isMissing, KubernetesError } from "../api/errors.ts";
import { mainContainerName, type PodSettings, samplePod } from "../pods/pod-spec.ts";

/** Longest wait: a node that has to be made takes longer than any doctor waits. */
const longestMs = 90_000;
const pollMs = 1_000;
/** Kubernetes ends a pod whose doctor was killed. */
const mostSeconds = 300;
/** Reasons for which a container waits, and goes on waiting. */
const lasting: ReadonlySet<string> = new Set([
  ...["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"],
  ...["CreateContainerError", "RunContainerError", "CrashLoopBackOff"],
]);

/** Starts a pod, waits until its agent runs, and deletes it. */
export async function startPod(
  client: KubernetesClient,
  settings: PodSettings,
  logger: Logger,
  signal: AbortSignal,
): Promise<Result> {
  const { namespace } = client;
  const name = `sockerless-doctor-${randomBytes(4).toString("hex")}`;
  // The pin is nobody's: this agent serves no backend.
  const sample = samplePod({ ...settings, authorityPin: randomBytes(32) });
  const { labels: _labels, annotations } = sample.metadata ?? {};
  const body: V1Pod = {
    ...sample,
    metadata: {
      namespace,
      name,
      labels: { "sockerless/doctor": "true" },
      ...(annotations && { annotations }),
    },
    spec: { containers: [], ...sample.spec, activeDeadlineSeconds: mostSeconds },
  };
  const begunMs = systemClock.nowMs();
  try {
    await client.call(
      "create pods",
      (options) => client.core.createNamespacedPod({ namespace, body }, withBody(options, body)),
      signal,
    );
  } catch (error) {
    if (error instanceof KubernetesError && error.prospect === "lasts") {
      return wrong(`Kubernetes makes no pod: ${error.message}`);
    }
    throw error;
  }
  try {
    const limitMs = Math.min(settings.startTimeoutMs, longestMs);
    let pod = body;
    while (systemClock.nowMs() - begunMs < limitMs) {
      await systemClock.sleep(pollMs, signal);
      pod = await client.call(
        "get pods",
        (options) => client.core.readNamespacedPod({ namespace, name }, options),
        signal,
      );
      const seconds = Math.round((systemClock.nowMs() - begunMs) / 1000);
      const found = resultOf(pod, seconds);
      if (found !== undefined) {
        return found;
      }
    }
    return wrong(`no pod starts within ${Math.round(limitMs / 1000)} s: ${waitOf(pod)}`);
  } catch (error) {
    if (isMissing(error)) {
      return wrong("the pod was deleted by somebody else before it ran");
    }
    throw error;
  } finally {
    await remove(client, name).catch((error: unknown) =>
      logger.warn({ err: error }, `cannot delete the pod ${name}: ${messageOf(error)}`),
    );
  }
}

/** @returns undefined while its start may still go well */
function resultOf({ spec, status }: V1Pod, seconds: number): Result | undefined {
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

function statusesOf(status: V1Pod["status"]): readonly V1ContainerStatus[] {
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
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

async function remove(client: KubernetesClient, name: string): Promise<void> {
  const { namespace } = client;
  try {
    await client.call("delete pods", (options) =>
      client.core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 }, options),
    );
  } catch (error) {
    if (!isMissing(error)) {
      throw error;
    }
  }
}
