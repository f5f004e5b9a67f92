/** A port that is open to everybody: who has not shown yet who he is, is bounded in number and time, and so is what is told of him. */
import type { Socket } from "node:net";

/** The most connections of strangers, at once. */
const maxStrangers = 256;
/** The time that a stranger has to show who he is, a handshake of TLS included. */
export const provenWithinMs = 15_000;
/** The most refusals that are told one by one within a minute: a log is not endless. */
const toldPerMinute = 10;

/** Connections that have not shown who they are, oldest first. */
export class Strangers {
  readonly #connections = new Map<string, { readonly socket: Socket; readonly limit: NodeJS.Timeout }>();
  readonly #tell: (remote: string, reason: string) => void;
  #turnedAway = 0;

  /** @param tell told of refusals; `remote` is empty where it is a number of them */
  constructor(tell: (remote: string, reason: string) => void) {
    this.#tell = tell;
    setInterval(() => {
      if (this.#turnedAway > toldPerMinute) {
        tell("", `${this.#turnedAway - toldPerMinute} more within a minute`);
      }
      this.#turnedAway = 0;
    }, 60_000).unref();
  }

  /** Takes a connection that was accepted just now. @param shown what it has to show, for the log: "a key" */
  add(socket: Socket, shown: string): void {
    const remote = remoteOf(socket);
    const limit = setTimeout(() => socket.destroy(), provenWithinMs);
    this.#connections.set(remote, { socket, limit });
    socket.once("close", () => this.proven(remote));
    const [oldest] = this.#connections;
    if (this.#connections.size > maxStrangers && oldest !== undefined) {
      // A caller that belongs here takes a moment: in a flood it is the flood that is oldest.
      this.turnAway(oldest[0], `${maxStrangers} connections have not shown ${shown} yet`);
      oldest[1].socket.destroy();
      this.proven(oldest[0]);
    }
  }

  /** A connection has shown who it is, or is gone. @param remote as {@link remoteOf} has it */
  proven(remote: string): void {
    clearTimeout(this.#connections.get(remote)?.limit);
    this.#connections.delete(remote);
  }

  /** Tells of somebody who was refused. */
  turnAway(remote: string, reason: string): void {
    this.#turnedAway++;
    if (this.#turnedAway <= toldPerMinute) {
      this.#tell(remote, reason);
    }
  }
}

/** Address and port of a connection's other end, which TLS over it has too. */
export function remoteOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
