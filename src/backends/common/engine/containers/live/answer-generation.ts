/** The generation that an answer about containers is told with. */
import { noGeneration } from "../../../../../common/generation-file.ts";
import type { EngineContext } from "../../context.ts";

/** The state's generation; none while something is under way that changes answers without a transition or a commit. */
export function answerGeneration(
  { generation, live }: EngineContext,
  containerIds: Iterable<string> & object, // a text is iterable too, and would be no ID
): bigint {
  for (const id of containerIds) {
    if (live.peek(id)?.run.isSettled === false) {
      return noGeneration;
    }
  }
  return generation.value;
}
