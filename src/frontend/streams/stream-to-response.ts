/** A stream as the body of an ordinary HTTP response. */
import { messageOf } from "../../common/errors.ts";
import type { ReplyContext } from "../request-context.ts";
import type { StreamLink } from "./stream-link.ts";

/**
 * Writes a stream's output as the rest of a response whose header was written. A client that leaves ends the stream.
 *
 * @param lastWords what is written when the stream was cut; the response then stays unfinished, which every client
 *   takes for an error
 * @throws StreamError when the stream was cut
 */
export async function streamToResponse(
  { response, signal }: Pick<ReplyContext, "response" | "signal">,
  link: StreamLink,
  lastWords?: (error: unknown) => Buffer,
): Promise<void> {
  const leave = (): void =>
    link.cancel({ kind: "unavailable", message: messageOf(signal.reason), exitCode: 0 });
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) {
    leave();
  }
  link.pipeTo((chunk, written) => {
    response.write(chunk, () => written());
  });
  try {
    await link.ended;
  } catch (error) {
    if (lastWords !== undefined && !response.destroyed) {
      // What ends the response for good leaves out what the client has not been sent.
      const sent = Promise.withResolvers<void>();
      response.once("close", sent.resolve);
      response.write(lastWords(error), () => sent.resolve());
      await sent.promise;
    }
    throw error;
  } finally {
    signal.removeEventListener("abort", leave);
  }
  response.end();
}
