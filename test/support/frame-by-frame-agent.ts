/** An agent that cuts its answers into HTTP/2 frames as it likes, which Node's server lets nobody do. */
import type { Socket } from "node:net";

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".length;
const headerLength = 9;
const types = { data: 0, headers: 1, settings: 4 } as const;
const flags = { ack: 1, endStream: 1, endHeaders: 4 } as const;

/**
 * Answers every call on a connection with a body in frames of one byte, and gRPC's status 0.
 *
 * @param body below 64 KiB: windows are not looked at
 */
export function answerInBytes(socket: Socket, body: Uint8Array): void {
  let held = Buffer.alloc(0);
  let skipped = false;
  socket.on("error", () => {});
  socket.write(frame(types.settings, 0, 0, []));
  socket.on("data", (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    if (!skipped && held.length >= preface) {
      skipped = true;
      held = held.subarray(preface);
    }
    while (skipped && held.length >= headerLength) {
      const end = headerLength + held.readUIntBE(0, 3);
      if (held.length < end) {
        return;
      }
      const [type, flag, stream] = [held.readUInt8(3), held.readUInt8(4), held.readUInt32BE(5)];
      held = held.subarray(end);
      if (type === types.headers) {
        socket.write(answer(stream, body));
      } else if (type === types.settings && flag !== flags.ack) {
        socket.write(frame(types.settings, flags.ack, 0, []));
      }
    }
  });
}

function answer(stream: number, body: Uint8Array): Buffer {
  const status = 0x88; // HPACK's entry for `:status: 200`
  return Buffer.concat([
    frame(types.headers, flags.endHeaders, stream, [
      status,
      ...field("content-type", "application/grpc+proto"),
    ]),
    ...Array.from(body, (byte) => frame(types.data, 0, stream, [byte])),
    frame(types.headers, flags.endHeaders | flags.endStream, stream, field("grpc-status", "0")),
  ]);
}

function frame(type: number, flag: number, stream: number, payload: readonly number[]): Buffer {
  const bytes = Buffer.from([0, 0, 0, type, flag, 0, 0, 0, 0, ...payload]);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes.writeUInt32BE(stream, 5);
  return bytes;
}

/** In HPACK's form of a field that is in no table. */
function field(name: string, value: string): number[] {
  return [0, name.length, ...Buffer.from(name), value.length, ...Buffer.from(value)];
}
