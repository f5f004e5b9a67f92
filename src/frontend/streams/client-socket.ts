/** Joining a client's raw connection and a stream to an agent. */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

import type { Outcome } from "../../agent-client/agent-stream.ts";
import { messageOf } from "../../common/errors.ts";
import { outputLoss } from "./lost-output.ts";
import type { StreamLink } from "./stream-link.ts";

/** TCP keep-alive in milliseconds, as a connection over a network may die silently. */
const keepAliveMs = 30_000;

/** Milliseconds for a client that does not read to take the last line. */
const farewellMs = 2_000;

/** Stream numbers of Docker's frames for messages of ours. */
const channels = { stdout: 1, stderr: 2, systemError: 3 } as const;

/** Sends keystrokes at once and detects a dead peer. */
export function prepareForStreaming(socket: Duplex): void {
  if (socket instanceof Socket) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    socket.setTimeout(0);
  }
}

/**
 * Copies both ways until the stream ends: output to the socket and, with `stdin`, the client's bytes and half-close to
 * the agent. The stream also ends when the client leaves or the signal aborts; the process still gets all that the
 * client had sent, even if the client never read. `early` holds bytes that were already read from the socket.
 *
 * @returns once all output was written to the socket, which stays open
 * @throws StreamError if the stream was cut or failed, the client left, or the signal aborted
 */
export async function joinClient(
  socket: Duplex,
  link: StreamLink,
  options: { readonly stdin: boolean; readonly signal: AbortSignal; readonly early?: Buffer | undefined },
): Promise<Outcome> {
  const { stdin, signal, early } = options;
  const receive = (chunk: Buffer): void => {
    if (stdin && !link.write(chunk)) {
      socket.pause();
    }
  };
  const loss = outputLoss(socket);
  /**
   * Passes on the bytes that were read while the link was full: they stay in the socket's buffer, even after a reset
   * has destroyed it.
   */
  const handOver = (): void => {
    socket.off("data", receive);
    for (let left: unknown = socket.read(); stdin && Buffer.isBuffer(left); left = socket.read()) {
      link.write(left);
    }
  };
  const leave = (): void => {
    handOver();
    link.leave({ kind: "unavailable", message: messageOf(signal.reason), exitCode: 0 });
  };
  const gone = (): void => {
    handOver();
    link.leave();
    if (loss?.aborted === true) {
      socket.destroy();
    }
  };
  const halfClosed = (): void => {
    if (stdin) {
      link.endInput();
    }
    if (loss?.aborted === true) {
      gone();
    }
  };
  const deaf = (): void => {
    // With stdin attached the client's last bytes may still be in flight.
    if (!stdin || socket.readableEnded) {
      gone();
    }
  };
  socket.on("data", receive);
  socket.on("end", halfClosed);
  socket.on("close", gone);
  signal.addEventListener("abort", leave, { once: true });
  loss?.addEventListener("abort", deaf);
  link.onDrain(() => socket.resume());
  link.pipeTo((chunk, written) => {
    socket.write(chunk, () => written());
  });
  if (early !== undefined && early.length > 0) {
    receive(early);
  }
  if (socket.destroyed) {
    gone();
  } else if (signal.aborted) {
    leave();
  } else if (socket.readableEnded) {
    halfClosed();
  } else if (loss?.aborted === true) {
    deaf();
  }
  socket.resume();
  try {
    return await link.ended;
  } finally {
    socket.off("data", receive);
    socket.off("end", halfClosed);
    socket.off("close", gone);
    signal.removeEventListener("abort", leave);
    loss?.removeEventListener("abort", deaf);
    // Bytes that the client still sends are dropped: unread, they would turn the close into a reset.
    socket.resume();
  }
}

/** A message in the stream: as a frame, or as is in a stream without frames. */
export function inBandText(text: string, multiplexed: boolean, channel: keyof typeof channels): Buffer {
  const bytes = Buffer.from(text);
  return multiplexed ? Buffer.concat([frameHeader(channels[channel], bytes.length), bytes]) : bytes;
}

/** Docker's header of a frame. */
function frameHeader(channel: number, length: number): Buffer {
  const header = Buffer.alloc(8);
  header[0] = channel;
  header.writeUInt32BE(length, 4);
  return header;
}

/**
 * Writes the error into the stream and closes the connection abnormally, by a reset if the transport has one, so that
 * no client takes it for the end of the stream.
 */
export function abortClient(socket: Duplex, text: Buffer): void {
  if (socket.destroyed) {
    return;
  }
  const end = (): void => {
    clearTimeout(timer);
    if (socket instanceof Socket && socket.remoteAddress !== undefined) {
      socket.resetAndDestroy();
    } else {
      socket.destroy();
    }
  };
  const timer = setTimeout(end, farewellMs);
  socket.write(text, end);
}
