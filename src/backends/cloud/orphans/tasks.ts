import { shortId } from "../../../common/ids.ts";
import type { AgentFinder, TaskPlace } from "../contract/agent-finder.ts";
import type { CloudTasks, TaskView } from "../contract/cloud-tasks.ts";
import { describeAll, whole } from "../tasks/describe-all.ts";
import type { Known, Orphan } from "./orphan.ts";

/** Time limit for an agent's answer. */
const agentLimitMs = 5_000;

/** An instance's running tasks; a cloud's list may include ended ones. @throws CloudError */
export async function runningTasks(
  cloud: Pick<CloudTasks, "listOwn" | "describe" | "describedAtOnce" | "placeOf">,
): Promise<readonly TaskView[]> {
  const listed = await describeAll(cloud, await cloud.listOwn(), new AbortController().signal);
  return whole(listed).filter(({ stopping, stopped }) => !stopping && !stopped);
}

/**
 * This instance's tasks of containers that the state does not know. A starting backend adopts one whose agent answers;
 * another one's agent may just be unreachable.
 */
export async function orphanedTasks(
  cloud: Pick<CloudTasks, "listOwn" | "describe" | "describedAtOnce" | "placeOf" | "stop">,
  finder: Pick<AgentFinder, "meet">,
  own: string,
  known: Known,
): Promise<Orphan[]> {
  const tasks = await runningTasks(cloud);
  const unknown = tasks.filter(({ containerId }) => !known.hasContainer(containerId));
  return await Promise.all(
    unknown.map(async ({ task, containerId, address, generation: launchGeneration, prepared }) => ({
      kind: "task",
      id: task,
      purpose:
        prepared !== undefined && containerId === ""
          ? "prepared for a container"
          : `container ${shortId(containerId)}${address === undefined ? "" : hint(await doesAgentAnswer(finder, containerId, { task, address, launchGeneration }))}`,
      instance: own,
      async remove() {
        await cloud.stop(task, "sockerless gc");
        return undefined;
      },
    })),
  );
}

async function doesAgentAnswer(
  finder: Pick<AgentFinder, "meet">,
  containerId: string,
  place: TaskPlace,
): Promise<boolean> {
  try {
    await finder.meet(containerId, place, AbortSignal.timeout(agentLimitMs));
    return true;
  } catch {
    return false;
  }
}

/** Describes what would become of a running container, for the user who is about to stop it. */
function hint(isAnswering: boolean): string {
  return isAnswering
    ? ", which a backend that starts takes over"
    : ", whose agent does not answer: it may run, and a backend that starts takes it over once it does";
}
