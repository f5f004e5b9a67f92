import { setTimeout as delay } from "node:timers/promises";

const LIMIT_MS = 20_000;
const STEP_MS = 25;

/**
 * Asks until there is an answer: a condition that comes true in its own time.
 *
 * @throws when there is none within 20 seconds
 */
export async function until<T>(ask: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = performance.now() + LIMIT_MS;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) {
      return answer;
    }
    if (performance.now() > deadline) {
      throw new Error(`no answer within ${LIMIT_MS} ms: ${ask}`);
    }
    await delay(STEP_MS);
  }
}
