/** Joining a client's raw connection and a stream to an agent. */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";

import type { Outcome } from "../../agent-client/agent-stream.ts";
import { messageOf } from "../../common/errors.ts";
import { outputLoss } from "./lost-output.ts";
import type { StreamLink } from "./stream-link.ts";

/** A connection over a network may die without a word; after so long the kernel asks. */
const keepAliveMs = 30_000;

/** How long a client that does not read is given to take the last line. */
const farewellMs = 2_000;

/** The streams of Docker's frames that a text of ours can travel on. */
const channels = { stdout: 1, stderr: 2, systemError: 3 } as const;

/** Keystrokes go out at once, and a dead peer is noticed. */
export function prepareForStreaming(socket: Duplex): void {
  if (socket instanceof Socket) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    socket.setTimeout(0);
  }
}

/**
 * Copies both ways until the stream ends: output to the socket, and, where `stdin` says so, the client's bytes to the
 * agent, its half-close as their end. A client that leaves ends the stream, and so does the signal; the process gets all
 * that the client had sent, also where it left without reading. `early` was read of the socket before.
 *
 * @returns once all output was given to the socket, which stays open
 * @throws StreamError when the stream was cut or failed, the client left, or the signal aborted
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
   * Hands on the bytes that were read while the link had no room: they are left in the socket, also in one
   * that a reset has destroyed.
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
    // With standard input attached the client's last bytes may still be on their way.
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
    // Bytes that the client still sends are dropped: left unread they would turn the close into a reset.
    socket.resume();
  }
}

/** A text in the stream: as a frame, or as it is where there are no frames. */
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
 * Says in the stream what went wrong and ends the connection so that no client takes it for the end of a stream: by a
 * reset where the transport has one.
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
