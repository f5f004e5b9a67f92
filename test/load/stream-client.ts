/** Docker clients that cost a test little: hundreds fit into one process. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";

/** Length and hash of a multiplexed stream's payload. */
export interface Received {
  readonly bytes: number;
  readonly sha256: string;
}

/** Sends a request and answers its JSON. */
async function callJson<T>(socketPath: string, method: string, path: string, body?: object): Promise<T> {
  const chunks: Buffer[] = [];
  for await (const chunk of await open(socketPath, method, path, body)) {
    chunks.push(chunk as Buffer);
  }
  return JSON.parse(Buffer.concat(chunks).toString()) as T;
}

/** Sends a request and reads a stream of Docker's frames to its end. Rejects when it is cut. */
export async function receive(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<Received> {
  return await readFrames(await open(socketPath, method, path, body));
}

/** Reads a stream of Docker's frames to its end. Rejects when it is cut. */
export async function readFrames(stream: NodeJS.ReadableStream): Promise<Received> {
  const hash = createHash("sha256");
  let bytes = 0;
  let pending: Buffer = Buffer.alloc(0);
  let left = 0;
  for await (const chunk of stream) {
    let rest = pending.length === 0 ? (chunk as Buffer) : Buffer.concat([pending, chunk as Buffer]);
    pending = Buffer.alloc(0);
    while (rest.length > 0) {
      if (left === 0) {
        if (rest.length < 8) {
          pending = rest;
          break;
        }
        left = rest.readUInt32BE(4);
        rest = rest.subarray(8);
      }
      const part = rest.subarray(0, left);
      hash.update(part);
      bytes += part.length;
      left -= part.length;
      rest = rest.subarray(part.length);
    }
  }
  if (left > 0 || pending.length > 0) {
    throw new Error("a stream ended in the middle of a frame");
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** A client that leaves with the first bytes of the answer's body. */
export async function vanishing(stream: IncomingMessage): Promise<void> {
  await once(stream, "data");
  stream.destroy();
}

/** A client that asks and then reads nothing. */
export async function stalled(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<Socket> {
  const text = body === undefined ? "" : JSON.stringify(body);
  const socket = connect({ path: socketPath });
  socket.on("error", () => {}); // nobody listens to it either
  socket.write(
    `${method} ${path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
  );
  socket.pause();
  return socket;
}

/** A client that reads until the answer has begun, and nothing more. */
export async function answeredThenStalled(
  ...request: readonly [socketPath: string, method: string, path: string, body?: object]
): Promise<Socket> {
  const socket = await stalled(...request);
  await once(socket, "readable");
  return socket;
}

/** An exec that is made and not started. */
export async function createExec(
  socketPath: string,
  container: string,
  cmd: readonly string[],
): Promise<string> {
  const config = { AttachStdout: true, AttachStderr: true, Cmd: cmd };
  const { Id } = await callJson<{ Id: string }>(socketPath, "POST", `/containers/${container}/exec`, config);
  return Id;
}

/** Sends a request. @returns its answer, of which only the header was read */
export function open(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, method, path, headers: { "Content-Type": "application/json" } },
      (response) => {
        if ((response.statusCode ?? 0) >= 400) {
          reject(new Error(`${method} ${path}: ${response.statusCode}`));
          response.resume();
          return;
        }
        resolve(response);
      },
    );
    outgoing.once("error", reject);
    outgoing.end(body === undefined ? "" : JSON.stringify(body));
  });
}
