/** The short way to a container: its own address, where this machine is let through to it. */
import { connect, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";

import { errnoOf, unavailable } from "../../common/errors.ts";

/** Milliseconds of silence that mean that there is no way: groups of a cloud drop what they do not allow. */
const silenceMs = 500;

/**
 * Connects to a container's address.
 *
 * @returns undefined: there is no way there
 * @throws SockerlessError of kind `unavailable`: there is, but nobody listens
 */
export function connectDirectly(host: string, port: number): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
    let givingUp: NodeJS.Immediate | undefined;
    const timer = setTimeout(() => {
      // An answer that came while this process was busy is taken first.
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

/** Copies both ways, each direction to its own end. @throws when either side breaks; both are destroyed then */
export async function joinDirectly(client: Socket, container: Socket): Promise<void> {
  try {
    await Promise.all([pipeline(client, container), pipeline(container, client)]);
  } finally {
    container.destroy();
  }
}
