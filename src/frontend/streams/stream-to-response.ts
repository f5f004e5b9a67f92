/** A stream as the body of an ordinary HTTP response. */
import { messageOf } from "../../common/errors.ts";
import type { ReplyContext } from "../request-context.ts";
import type { StreamLink } from "./stream-link.ts";
import { onAbort } from "../../common/on-abort.ts";

/**
 * Writes a stream's output as the rest of a response whose header was sent. A client that leaves ends the stream.
 *
 * @param cutMessage the message for a stream that was cut; the response then stays unfinished, which every client takes
 *   for an error
 * @throws StreamError if the stream was cut
 */
export async function streamToResponse(
  { response, signal }: Pick<ReplyContext, "response" | "signal">,
  link: StreamLink,
  cutMessage?: (error: unknown) => Buffer,
): Promise<void> {
  using _leaving = onAbort(signal, () =>
    link.cancel({ kind: "unavailable", message: messageOf(signal.reason), exitCode: 0 }),
  );
  link.pipeTo((chunk, written) => {
    response.write(chunk, () => written());
  });
  try {
    await link.ended;
  } catch (error) {
    if (cutMessage !== undefined) {
      await writeLast(response, cutMessage(error));
    }
    throw error;
  }
  response.end();
}

/** Writes the end of a response that stays unfinished, and waits until it is sent. */
async function writeLast(response: ReplyContext["response"], text: Buffer): Promise<void> {
  if (response.destroyed) {
    return;
  }
  // `destroy`, which ends the response, would drop unsent bytes.
  const sent = Promise.withResolvers<void>();
  response.once("close", sent.resolve);
  response.write(text, () => sent.resolve());
  await sent.promise;
}
