/** The first connection to an agent whose key is unknown. */
import { createHash } from "node:crypto";
import type { Duplex } from "node:stream";
import { connect } from "node:tls";

import type { ClientCredentials } from "../../../agent-client/address.ts";
import { secureContextOf } from "../../../agent-client/secure-context.ts";
import { type Clock, systemClock } from "../../../common/clock.ts";
import { messageOf, unavailable } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { after } from "../../../common/timers.ts";

/** Time after the handshake by which the agent must have closed the connection. */
const closeLimitMs = 10_000;

/** An address, or an open connection with its name for messages. */
export type FirstWay =
  | { readonly host: string; readonly port: number }
  | { readonly socket: Duplex; readonly name: string };

/**
 * Connects to the address that the cloud reports for a container and returns the key of the agent there, to be pinned.
 *
 * @param reached called once the connection is accepted
 * @returns SHA-256 of the SubjectPublicKeyInfo of the agent's certificate
 * @throws unavailable: no answer (yet), or not an agent; the signal's reason
 */
export function learnPin(
  way: FirstWay,
  credentials: ClientCredentials,
  signal: AbortSignal,
  reached: () => void = () => {},
  clock: Clock = systemClock,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const name = "socket" in way ? way.name : `${way.host}:${way.port}`;
    const socket = connect({
      ...way,
      secureContext: secureContextOf(credentials),
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false, // The agent's certificate is self-signed; from now on its key identifies it.
    });
    const leaving = onAbort(signal, () => {
      socket.destroy();
      reject(signal.reason);
    });
    const fail = (error?: Error): void => {
      const reason = messageOf(error ?? new Error("the connection was closed"));
      reject(unavailable(`cannot reach the agent at ${name}: ${reason}`, error));
    };
    socket.once("error", fail);
    socket.once("close", () => {
      leaving[Symbol.dispose]();
      fail();
    });
    socket.once("connect", reached);
    socket.once("secureConnect", () => {
      const spki = socket.getPeerX509Certificate()?.publicKey.export({ type: "spki", format: "der" });
      if (spki === undefined) {
        socket.destroy(new Error("no certificate came"));
        return;
      }
      // The handshake is completed even if the signal aborts: an interrupted one is an alarm in the agent's log.
      leaving[Symbol.dispose]();
      resolve(createHash("sha256").update(spki).digest());
      socket.end();
      socket.resume(); // Discards remaining data, as "close" is only emitted once everything is read.
      const limit = after(clock, closeLimitMs, () => socket.destroy());
      socket.once("close", () => limit[Symbol.dispose]());
    });
  });
}
