/** Many connections with one request each, of which none ends by itself. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";

import { backlog } from "../../src/common/listen.ts";
import { callApi } from "./call-api.ts";
import { until } from "./until.ts";

/**
 * Connections that are made at once: half of what waits to be accepted on a unix socket. A connection is made once it is in
 * that queue, and the kernel refuses the next one (EAGAIN) where it is full: a client can fill it faster than any server
 * accepts, dockerd too.
 */
const atOnce = Math.ceil(backlog / 2);

/** A flood of one request. */
export class Flood implements Disposable {
  readonly #sockets: Socket[] = [];
  readonly #answers: string[][] = [];
  /** Requests that were refused with 503. */
  refused = 0;
  /** Connections that were cut without an answer. */
  lost = 0;

  /** Connects to a socket and sends as many requests, each made of its number. @param takesAnswers false: no client reads on */
  static async of(
    path: string,
    count: number,
    request: (n: number) => string,
    takesAnswers = true,
  ): Promise<Flood> {
    const flood = new Flood();
    for (let n = 0; n < count; n += atOnce) {
      const length = Math.min(atOnce, count - n);
      await Promise.all(
        Array.from({ length }, (_, each) => flood.#open(path, request(n + each), takesAnswers)),
      );
      // The queue is taken in order: all before a connection that is answered have been accepted.
      assert.equal((await callApi(path, "GET", "/_ping")).text, "OK");
    }
    return flood;
  }

  async #open(path: string, request: string, takesAnswers: boolean): Promise<void> {
    const socket = connect({ path, allowHalfOpen: true });
    this.#sockets.push(socket);
    const connected = Promise.withResolvers<void>();
    let isAnswered = false;
    const answer: string[] = [];
    this.#answers.push(answer);
    socket.once("connect", connected.resolve);
    socket.once("error", (error) => connected.reject(error));
    socket.once("end", () => {
      this.lost += Number(!isAnswered);
    });
    socket.on("data", (chunk: Buffer) => {
      this.refused += Number(!isAnswered && chunk.toString("latin1").startsWith("HTTP/1.1 503 "));
      isAnswered = true;
      answer.push(chunk.toString("latin1"));
      if (!takesAnswers) {
        socket.pause();
      }
    });
    await connected.promise;
    socket.on("error", () => {});
    socket.write(request);
  }

  /** Until at least so many were refused. */
  async refuses(count: number): Promise<void> {
    await until(() => this.refused >= count || undefined);
  }

  /** Until each has the beginning of its answer: a follower that has it misses nothing that happens from now on. */
  async begins(): Promise<void> {
    await until(() => this.#answers.every(({ length }) => length > 0) || undefined);
  }

  /** How often all answers together have a text. */
  told(text: string): number {
    return this.#answers.reduce((sum, answer) => sum + answer.join("").split(text).length - 1, 0);
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) {
      socket.destroy();
    }
  }
}
