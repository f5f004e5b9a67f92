/** Whose turn it is on a connection. Node sends answers in the order of their requests; a hijack is not its to order. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** The answers that are still to come on each connection. */
export class Turns {
  readonly #responses = new WeakMap<Socket, Set<ServerResponse>>();

  /** A request came that will be answered by this response. */
  began(socket: Socket, response: ServerResponse): void {
    const responses = this.#responses.get(socket) ?? new Set();
    this.#responses.set(socket, responses.add(response));
    response.once("close", () => responses.delete(response));
  }

  /**
   * Whether earlier requests of a connection still wait for their answers.
   *
   * @returns undefined where none does, else what resolves once they were answered or the connection is closed
   */
  earlierAnswers(socket: Socket): Promise<void> | undefined {
    const open = [...(this.#responses.get(socket) ?? [])];
    // An answer that was given is on its way, though its client may have read it already.
    if (open.every((response) => response.writableEnded)) {
      return undefined;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.once("close", resolve);
    void Promise.all(open.map((response) => once(response, "close"))).then(() => resolve());
    return promise;
  }
}
