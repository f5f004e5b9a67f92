/** Streams that say now and then that they are alive. */
import type { Clock } from "../../common/clock.ts";
import { onAbort } from "../../common/on-abort.ts";

/** How long a stream is silent at most. */
const heartbeatMs = 10_000;

/** The reason with which the timer of a stream that has ended is stopped; nobody sees it. */
const ended = new Error("the stream has ended");

/**
 * The messages of a source, with a heartbeat wherever it is silent for ten seconds.
 *
 * It waits on one promise at a time, made anew for each message: promises that live as long as a stream would keep a
 * reaction for every message that was raced against them.
 *
 * @param signal ends the stream with its reason; the source has to end by it too
 */
export async function* withHeartbeats<T>(
  source: AsyncIterable<T>,
  heartbeat: () => T,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  const over = new AbortController();
  let wake = Promise.withResolvers<void>();
  let arrived: { readonly step: IteratorResult<T> } | { readonly error: unknown } | undefined;
  let isBeatDue: boolean = false;
  let lastSentMs = clock.nowMs();
  const advance = (): void => {
    arrived = undefined;
    iterator.next().then(
      (step) => {
        arrived = { step };
        wake.resolve();
      },
      (error: unknown) => {
        arrived = { error };
        wake.resolve();
      },
    );
  };
  const awaitBeat = (): void => {
    isBeatDue = false;
    const left = lastSentMs + heartbeatMs - clock.nowMs();
    clock.sleep(Math.max(left, 1), over.signal).then(
      () => {
        isBeatDue = true;
        wake.resolve();
      },
      () => undefined,
    );
  };
  using _leaving = onAbort(signal, () => wake.resolve());
  advance();
  awaitBeat();
  try {
    for (;;) {
      signal.throwIfAborted();
      if (arrived !== undefined) {
        if ("error" in arrived) {
          throw arrived.error;
        }
        if (arrived.step.done === true) {
          return;
        }
        lastSentMs = clock.nowMs();
        yield arrived.step.value;
        advance();
      } else if (isBeatDue) {
        if (clock.nowMs() - lastSentMs >= heartbeatMs) {
          lastSentMs = clock.nowMs();
          yield heartbeat();
        }
        awaitBeat();
      }
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
  } finally {
    over.abort(ended);
    // A source that still waits ends by the signal; it is not awaited here.
    iterator.return?.().catch(() => undefined);
  }
}
