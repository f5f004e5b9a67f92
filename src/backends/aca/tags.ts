/** Names and tags of this backend's resources in Azure, with the instance and the purpose. */
import { createHash } from "node:crypto";

import { shortId } from "../../common/ids.ts";

/** The tag with the instance of sockerless that created a resource: `sockerless/<16 hexadecimal digits>`. */
export const instanceTag = "sockerless-instance";
/** The tag with the ID of a job's container. */
export const containerTag = "sockerless-container";
/** The tag with the generation of a job's start, decimal. */
export const generationTag = "sockerless-generation";

/** Digits of a hash that distinguishes names. */
const hashDigits = 6;

/**
 * The name of a container's job: one per start, since Azure may start an updated job with its old template. At most 32
 * letters, digits and hyphens.
 */
export function jobNameOf(containerId: string, generation: bigint): string {
  const first = `sk-${shortId(containerId)}`;
  return generation <= 1n ? first : `${first}-${generation}`;
}

/** The name of a prepared job, a hash: its container sees it, and must not learn the name of its agent. */
export function preparedJobName(prepared: string): string {
  return jobNameOf(createHash("sha256").update(prepared).digest("hex"), preparedGeneration);
}

/** The generation in the secret of a prepared job's agent, as the job was not created for a start. */
export const preparedGeneration = 0n;

/** The name of the job that replaces one whose execution has ended before its agent answered. */
export function nextJobName(name: string, last: string): string {
  const hash = createHash("sha256").update(`${name}:${last}`).digest("hex").slice(0, hashDigits);
  return `${firstJobName(name)}-x${hash}`;
}

/** The name of the first of the jobs that replaced each other. */
export function firstJobName(name: string): string {
  return name.replace(/-x[0-9a-f]+$/, "");
}

/** A task: an execution of a job, as in task records. */
export interface TaskName {
  readonly job: string;
  readonly execution: string;
}

/** Formats a task for {@link parseTask}. */
export function formatTask({ job, execution }: TaskName): string {
  return `${job}/${execution}`;
}

/** Parses the result of {@link formatTask}. */
export function parseTask(task: string): TaskName {
  const at = task.indexOf("/");
  return { job: task.slice(0, at), execution: task.slice(at + 1) };
}
