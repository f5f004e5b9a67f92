/** The generation that an answer about a container is told with. */
import { noGeneration } from "../../../../../common/generation-file.ts";
import type { EngineContext } from "../../context.ts";

/** The state's generation; none while something is under way that changes answers without a transition or a commit. */
export function answerGeneration({ generation, live }: EngineContext, containerId: string): bigint {
  return live.peek(containerId)?.run.isSettled === false ? noGeneration : generation.value;
}
