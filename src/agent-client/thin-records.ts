/**
 * A limit on TLS records that carry next to nothing, such as key updates: each costs microseconds of the thread, and
 * Node tells of none. An honest agent's carry HTTP/2 frames, of which even the smallest are a third of their records.
 */
import type { TLSSocket } from "node:tls";

import { Code, ConnectError } from "@connectrpc/connect";

const checkedEveryMs = 250;
/** Bytes of records that are tolerated for each byte that they carry. */
const toleratedPerByte = 8;
/** Further bytes that are tolerated at once; a handshake has few of them. */
const toleratedAtOnce = 256 * 1024;
/** Bytes by which these refill at each check. */
const refill = 16 * 1024;

/** A connection that is watched. */
interface Watched {
  readonly received: () => number;
  raw: number;
  carried: number;
  /** Bytes beyond what is tolerated for those carried. */
  excess: number;
}

const watched = new Map<TLSSocket, Watched>();
let checks: NodeJS.Timeout | undefined;

/**
 * Destroys the socket once its records have carried too little.
 *
 * @param received bytes received of what TLS runs over
 */
export function limitThinRecords(socket: TLSSocket, received: () => number): void {
  watched.set(socket, { received, raw: 0, carried: 0, excess: 0 });
  socket.once("close", () => {
    watched.delete(socket);
    if (watched.size === 0) {
      clearInterval(checks);
      checks = undefined;
    }
  });
  checks ??= setInterval(check, checkedEveryMs).unref();
}

function check(): void {
  for (const [socket, each] of watched) {
    const [raw, carried] = [each.received(), socket.bytesRead];
    const grown = raw - each.raw - toleratedPerByte * (carried - each.carried) - refill;
    each.excess = Math.max(0, each.excess + grown);
    each.raw = raw;
    each.carried = carried;
    if (each.excess > toleratedAtOnce) {
      socket.destroy(new ConnectError("the peer sends records that carry nothing", Code.ResourceExhausted));
    }
  }
}
