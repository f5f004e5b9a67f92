/**
 * Runs whose start was never recorded: the backend was lost before the agent's answer, and the agent has ended since.
 */
import type { FoundWorkload } from "../../driver/workloads.ts";
import type { TaskContext } from "./task-context.ts";

/**
 * Exit codes of an agent that has begun no command: it was not told to, or its start has failed. For a command that
 * exits with one of them there is a last line in the log.
 */
const nothingBegun: ReadonlySet<number> = new Set([125, 126, 127, 128]);

/**
 * Determines whether an ended run had begun: by its agent's last line, otherwise by the exit code according to the
 * cloud. Unless one of them shows the contrary it counts as begun, so that no command runs twice. One that had not begun counts as lost no more.
 *
 * @throws the errors of {@link ReportedEnds.of}: it is not known yet
 */
export async function withBegin(
  {
    ends,
    stored,
  }: Pick<TaskContext, "ends"> & { readonly stored: Pick<TaskContext["stored"], "forgetLoss"> },
  found: FoundWorkload,
): Promise<FoundWorkload> {
  const { exit: told } = await ends.of(found);
  const exit = told ?? found.exit;
  if (exit === undefined || (told === undefined && nothingBegun.has(exit.code))) {
    await stored.forgetLoss(found.containerId, found.generation);
    return found;
  }
  return { ...found, exit, begunAt: exit.finishedAt };
}
