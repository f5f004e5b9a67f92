import { setTimeout as delay } from "node:timers/promises";

/** Far longer than anything takes: on a machine that does other work too, everything takes its time. */
const limitMs = 120_000;
const stepMs = 25;

/**
 * Asks until there is an answer: a condition that comes true in its own time.
 *
 * @throws when there is none within two minutes, or the signal is aborted
 */
export async function until<T>(
  ask: () => Promise<T | undefined> | T | undefined,
  signal?: AbortSignal,
): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) {
      return answer;
    }
    if (performance.now() > deadline) {
      throw new Error(`no answer within ${limitMs} ms: ${ask}`);
    }
    await delay(stepMs, undefined, { ...(signal !== undefined && { signal }) });
  }
}

/** Asks until something holds. @throws as {@link until} */
export async function untilTrue(
  holds: () => Promise<boolean> | boolean,
  signal?: AbortSignal,
): Promise<void> {
  await until(async () => ((await holds()) ? true : undefined), signal);
}
