/**
 * A TCP connection into a pod, by way of the API server and the kubelet: the subresource `portforward`, over a WebSocket.
 * Each message begins with the number of its channel: 0 is the connection, 1 tells why there is none. The first message of
 * each has the port's number, two bytes.
 */
import { Duplex } from "node:stream";

import type { WebSocket } from "ws";

import { unavailable } from "../../../common/errors.ts";
import type { KubernetesClient } from "./client.ts";

const protocol = "v4.channel.k8s.io";
const dataChannel = 0;
const errorChannel = 1;
const portBytes = 2;

/**
 * Connects to a port of a pod's loopback interface. A pod that does not listen there is told by an end, or an error, of the
 * connection.
 *
 * @throws KubernetesError; the signal's reason
 */
export async function forwardPort(
  client: KubernetesClient,
  pod: string,
  port: number,
  signal: AbortSignal,
): Promise<Duplex> {
  const path = `/api/v1/namespaces/${client.namespace}/pods/${pod}/portforward`;
  return new PodStream(
    await client.connect("create pods/portforward", path, { ports: String(port) }, protocol, signal),
  );
}

/** Keeps no more than one chunk each way that the other side has not taken. */
class PodStream extends Duplex {
  readonly #socket: WebSocket;
  /** Bytes of the port's number that are still to come, by channel. */
  readonly #portBytes = [portBytes, portBytes];

  constructor(socket: WebSocket) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    socket.on("message", (message: Buffer) => this.#hear(message));
    socket.on("error", (error) => this.destroy(error));
    socket.once("close", () => this.push(null));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: (error?: Error | null) => void): void {
    const message = Buffer.allocUnsafe(1 + chunk.length);
    message[0] = dataChannel;
    chunk.copy(message, 1);
    this.#socket.send(message, { binary: true }, written);
  }

  override _final(done: () => void): void {
    this.#socket.close();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.terminate();
    done(error);
  }

  #hear(message: Buffer): void {
    const channel = message[0] ?? -1;
    const skipped = Math.min(this.#portBytes[channel] ?? 0, message.length - 1);
    const data = message.subarray(1 + skipped);
    if (skipped > 0) {
      this.#portBytes[channel] = (this.#portBytes[channel] ?? 0) - skipped;
    }
    if (data.length === 0) {
      return;
    }
    if (channel === errorChannel) {
      this.destroy(unavailable(`the pod's port is not reached: ${data.toString()}`));
    } else if (channel === dataChannel && !this.push(data)) {
      this.#socket.pause();
    }
  }
}
