/** The body of an ordinary HTTP request as a stream's input. */
import { messageOf } from "../../common/errors.ts";
import { onAbort } from "../../common/on-abort.ts";
import type { ReplyContext } from "../request-context.ts";
import type { StreamLink } from "./stream-link.ts";

/**
 * Sends the whole body, then waits for the stream's end. A truncated body ends the stream without its last message,
 * which tells the agent.
 *
 * @throws StreamError if the agent refused, the stream was cut or the client left
 */
export async function requestToStream(
  { request, signal }: Pick<ReplyContext, "request" | "signal">,
  link: StreamLink,
): Promise<void> {
  const cut = (): void => {
    if (!request.complete) {
      link.cancel({ kind: "invalid", message: "unexpected EOF", exitCode: 0 });
    }
  };
  const send = (chunk: Buffer): void => {
    if (!link.write(chunk)) {
      request.pause();
    }
  };
  request.on("data", send);
  request.once("end", () => link.endInput());
  request.once("close", cut);
  link.onDrain(() => request.resume());
  using _leaving = onAbort(signal, () =>
    link.cancel({ kind: "unavailable", message: messageOf(signal.reason), exitCode: 0 }),
  );
  try {
    await link.ended;
  } finally {
    request.off("data", send);
    request.off("close", cut);
  }
}
