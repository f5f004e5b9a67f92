import { setTimeout as delay } from "node:timers/promises";

/** Far longer than anything takes: on a machine that does other work too, everything takes its time. */
const LIMIT_MS = 60_000;
const STEP_MS = 25;

/**
 * Asks until there is an answer: a condition that comes true in its own time.
 *
 * @throws when there is none within a minute
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

/** Asks until something holds. @throws as {@link until} */
export async function untilTrue(holds: () => Promise<boolean> | boolean): Promise<void> {
  await until(async () => ((await holds()) ? true : undefined));
}
