/** The direct way to a container: its own address, if this machine is admitted there. */
import { connect, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";

import { errnoOf, unavailable } from "../../common/errors.ts";
import { joinedHighWaterMark as highWaterMark } from "../../common/pack-waiting.ts";

/**
 * Milliseconds without an answer after which the address counts as unreachable: a cloud's security groups drop
 * silently.
 */
const silenceMs = 500;

/**
 * Connects to a container's address.
 *
 * @returns undefined if it is unreachable
 * @throws SockerlessError of kind `unavailable` if it is reachable but nobody listens
 */
export function connectDirectly(host: string, port: number): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const options = { host, port, allowHalfOpen: true, noDelay: true, highWaterMark };
    const socket = connect(options);
    let givingUp: NodeJS.Immediate | undefined;
    const timer = setTimeout(() => {
      // An answer that arrived while this process was busy counts.
      givingUp = setImmediate(() => {
        socket.destroy();
        resolve(undefined);
      });
    }, silenceMs);
    const heard = (): void => {
      clearTimeout(timer);
      clearImmediate(givingUp);
    };
    socket.once("connect", () => {
      heard();
      resolve(socket);
    });
    socket.on("error", (error) => {
      heard();
      if (errnoOf(error) === "ECONNREFUSED") {
        reject(unavailable(`nobody listens on ${host}:${port}`, error));
      } else {
        resolve(undefined);
      }
    });
  });
}

/** Copies both ways, each direction to its own end. @throws if either side breaks; both are then destroyed */
export async function joinDirectly(client: Socket, container: Socket): Promise<void> {
  try {
    await Promise.all([pipeline(client, container), pipeline(container, client)]);
  } finally {
    container.destroy();
  }
}
