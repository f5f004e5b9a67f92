/** Names and tags of what this backend makes in Azure: they name the instance, and what it is for. */
import { createHash } from "node:crypto";

import { shortId } from "../../common/ids.ts";

/** The tag that names the instance of sockerless that made something: `sockerless/<16 hexadecimal digits>`. */
export const instanceTag = "sockerless-instance";
/** The tag that names a job's container, by its whole ID. */
export const containerTag = "sockerless-container";
/** The tag that names the generation of the start that a job is for, decimal. */
export const generationTag = "sockerless-generation";

/** Digits of a hash that tells names apart. */
const hashDigits = 6;

/**
 * The name of a container's job: one for each start, since Azure may start a job that was updated by its old template.
 * Letters, digits and hyphens, 32 at most.
 */
export function jobNameOf(containerId: string, generation: bigint): string {
  const first = `sk-${shortId(containerId)}`;
  return generation <= 1n ? first : `${first}-${generation}`;
}

/** The name of the job that follows one whose execution has ended before its agent answered. */
export function nextJobName(name: string, last: string): string {
  const base = name.replace(/-x[0-9a-f]+$/, "");
  const hash = createHash("sha256").update(`${name}:${last}`).digest("hex").slice(0, hashDigits);
  return `${base}-x${hash}`;
}

/** A task: an execution of a job, as the books name it. */
export interface TaskName {
  readonly job: string;
  readonly execution: string;
}

/** As {@link parseTask} reads it. */
export function formatTask({ job, execution }: TaskName): string {
  return `${job}/${execution}`;
}

/** Reads what {@link formatTask} wrote. */
export function parseTask(task: string): TaskName {
  const at = task.indexOf("/");
  return { job: task.slice(0, at), execution: task.slice(at + 1) };
}
