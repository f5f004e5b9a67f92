/** Runs whose start is on no record: the backend was lost with the agent's answer, and the agent has left since. */
import type { FoundWorkload } from "../../driver/workloads.ts";
import type { TaskContext } from "./task-context.ts";

/**
 * Exit codes of an agent that has begun nothing: it was told nothing, or its start has failed. A command that ends with one of
 * them has left its last line in the log.
 */
const nothingBegun: ReadonlySet<number> = new Set([125, 126, 127, 128]);

/**
 * Tells whether a run that is over had begun: as its agent's last line has it, else as the cloud tells its exit code. Where neither
 * says that it had not, it had: no command runs twice.
 *
 * @throws what {@link ToldEnds.of} does: nobody knows yet
 */
export async function withBegin(
  { ends }: Pick<TaskContext, "ends">,
  found: FoundWorkload,
): Promise<FoundWorkload> {
  const { exit: told } = await ends.of(found);
  const exit = told ?? found.exit;
  if (exit === undefined || (told === undefined && nothingBegun.has(exit.code))) {
    return found;
  }
  return { ...found, exit, begunAt: exit.finishedAt };
}
