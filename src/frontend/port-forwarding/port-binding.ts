/** Choice of the addresses and the number of a published port. */
import { isIP } from "node:net";

import { errnoOf, messageOf, systemError } from "../../common/errors.ts";
import { Turns } from "../../common/turns.ts";
import type { WantedPort } from "../../gen/sockerless/backend/v1/container_pb.ts";

/** A listening socket. */
export interface BoundSocket {
  readonly address: string;
  readonly port: number;
  close(): void;
}

/**
 * Binds a socket of the wanted protocol.
 *
 * @param port 0: any
 * @throws the error of the system, with its `code`
 */
export type BindSocket = (address: string, port: number) => Promise<BoundSocket>;

/** No address means all addresses of both families. */
const everyAddress = ["0.0.0.0", "::"];
/** Maximum attempts to find a number that is free in both families. */
const freePortTries = 64;
/**
 * One port's socket takes some 50 µs to bind, less to close but for a UDP port's flows, and nothing in it waits for the
 * event loop.
 */
const turns = new Turns(64);
/** True if the machine, or this interface, has no IPv6. */
const noSuchFamily = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL"]);

/**
 * Binds a published port on all its addresses with the same number, or on none.
 *
 * @throws SockerlessError of kind `system` in Docker's words
 */
export async function bindPort(wanted: WantedPort, bind: BindSocket): Promise<BoundSocket[]> {
  const { hostIp } = wanted;
  if (hostIp !== "" && !isIP(hostIp)) {
    throw systemError(`failed to bind host port: ${hostIp} is no IP address`); // Looking a name up may hold up others'.
  }
  const addresses = hostIp === "" ? everyAddress : [hostIp];
  const last = Math.max(wanted.hostPort, wanted.hostPortEnd);
  const tries = wanted.hostPort === 0 ? freePortTries : last - wanted.hostPort + 1;
  let taken: unknown;
  for (let tried = 0; tried < tries; tried++) {
    const number = wanted.hostPort === 0 ? 0 : wanted.hostPort + tried;
    try {
      return await bindAll(wanted, addresses, number, bind);
    } catch (error) {
      if (!(error instanceof PortTaken)) {
        throw error;
      }
      taken = error;
    }
  }
  throw tries === 1 ? systemError(messageOf(taken), taken) : systemError("all ports are allocated", taken);
}

/** Closes ports' sockets. */
export async function closePorts(sockets: readonly BoundSocket[]): Promise<void> {
  for (const socket of sockets) {
    await turns.next();
    socket.close();
  }
}

/** True if another process listens there. */
class PortTaken extends Error {}

async function bindAll(
  wanted: WantedPort,
  addresses: readonly string[],
  number: number,
  bind: BindSocket,
): Promise<BoundSocket[]> {
  const bound: BoundSocket[] = [];
  for (const address of addresses) {
    const port = bound[0]?.port ?? number;
    await turns.next();
    try {
      bound.push(await bind(address, port));
    } catch (error) {
      const code = errnoOf(error);
      if (bound.length > 0 && code !== undefined && noSuchFamily.has(code)) {
        continue;
      }
      for (const each of bound) {
        each.close();
      }
      if (code === "EADDRINUSE") {
        throw new PortTaken(`Bind for ${address}:${port} failed: port is already allocated`, {
          cause: error,
        });
      }
      throw systemError(
        `failed to bind host port for ${address}:${port}:${wanted.containerPort}/${wanted.protocol}: ${messageOf(error)}`,
        error,
      );
    }
  }
  return bound;
}
