/** Reasons for a task's end, in AWS's words. */
import type { Task } from "@aws-sdk/client-ecs";

import { type Prospect, quotesRefusal } from "../../cloud/contract/start-prospect.ts";
import { prospectOfWords } from "../aws/start-prospects.ts";
import { mainContainerName } from "../definitions/definition.ts";

/** Prefix of this backend's reasons for stopping a task. */
export const ownReason = "sockerless: ";

const interruptions: Readonly<Record<string, string>> = {
  SpotInterruption: "the task was interrupted, because AWS took its Spot capacity back",
  TerminationNotice: "the task was ended by AWS",
};

/**
 * How a start continues whose task has ended before its agent answered: after a stop by somebody through ECS, or an end
 * of the agent's own, a retry would end the same way.
 */
export function prospectOfEnd(task: Task): Prospect {
  if (task.stopCode === "UserInitiated" || task.stopCode === "EssentialContainerExited") {
    return "lasts";
  }
  const reason = reasonOf(task);
  return prospectOfWords(reason) ?? (quotesRefusal(reason) ? "lasts" : "passes");
}

/** AWS's complete words about a task's end, without duplicates. */
export function reasonOf({ stopCode, stoppedReason, lastStatus, containers = [] }: Task): string {
  const main = containers.find(({ name }) => name === mainContainerName);
  const ofContainers = [main, ...containers.filter((each) => each !== main)].map((each) => each?.reason);
  const said = [stoppedReason, ...ofContainers].filter((text) => text !== undefined && text !== "");
  const reasons = [...new Set(said)].filter(
    (text) => !said.some((other) => other !== text && other?.includes(text ?? "")),
  );
  const ended =
    main?.exitCode === undefined || stopCode === "TaskFailedToStart"
      ? []
      : [`the agent ended with exit code ${main.exitCode} before it was told to run`];
  const all = [...reasons, ...ended];
  return all.length > 0 ? all.join("; ") : `the task stopped (${stopCode || (lastStatus ?? "")})`;
}

/** AWS's words for a main container that ran out of memory; empty otherwise. */
export function outOfMemory({ containers = [] }: Task): string {
  const reason = containers.find(({ name }) => name === mainContainerName)?.reason ?? "";
  return /out ?of ?memory/i.test(reason) ? reason : "";
}

/**
 * Words for what AWS, or someone using ECS, did to end a task; empty if it ended by itself or this backend stopped it.
 */
export function interruptionOf({ stopCode, stoppedReason = "" }: Task): string {
  if (stopCode === "UserInitiated") {
    return stoppedReason.startsWith(ownReason) ? "" : told("the task was stopped in ECS", stoppedReason);
  }
  const words = interruptions[stopCode ?? ""];
  return words === undefined ? "" : told(words, stoppedReason);
}

function told(words: string, reason: string): string {
  return reason === "" ? words : `${words}: ${reason}`;
}
