/** Streams with heartbeats. */
import type { Clock } from "../../common/clock.ts";
import { onAbort } from "../../common/on-abort.ts";

/** The longest silence of a stream. */
const heartbeatMs = 10_000;

/** Stops the timer of an ended stream; never visible to callers. */
const ended = new Error("the stream has ended");

/**
 * Yields the messages of a source, with a heartbeat after every ten seconds of silence.
 *
 * Each message gets a new promise to wait on: racing messages against a promise that lives as long as the stream would
 * leave a reaction on it for every message.
 *
 * @param signal ends the stream with its reason; it must also end the source
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
    // A source that still waits is ended by the signal; do not wait for it here.
    iterator.return?.().catch(() => undefined);
  }
}
