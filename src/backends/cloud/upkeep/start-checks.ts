/** Checks configured cloud resources at a backend's start. They only warn. */
import { messageOf, remedyOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { StartCheck } from "../contract/platform.ts";

/** Warns of problems that containers would have. Never fails; ends silently when the signal aborts. */
export async function checkSurroundings(
  checks: readonly StartCheck[],
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const remedies = new Set<string>();
  await Promise.all(
    checks.map(async ({ what, run }) => {
      try {
        const problem = await run(signal);
        if (problem !== undefined) {
          logger.warn(problem);
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        const remedy = remedyOf(error);
        if (remedy !== undefined) {
          if (!remedies.has(remedy)) {
            remedies.add(remedy);
            logger.error(remedy);
          }
          return;
        }
        logger.warn({ err: error }, `cannot look at ${what}: ${messageOf(error)}`);
      }
    }),
  );
}
