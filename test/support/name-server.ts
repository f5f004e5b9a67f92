import { createSocket } from "node:dgram";
import { once } from "node:events";

/** A name server on the machine's loopback. */
export interface NameServer extends AsyncDisposable {
  /** Address that it listens on, on port 53. */
  readonly address: string;
  /** The names that it was asked for, in order. */
  readonly asked: readonly string[];
}

const headerLength = 12;

/** Starts one that answers every question with one IPv4 address. */
export async function startNameServer(answer: string): Promise<NameServer> {
  const asked: string[] = [];
  const socket = createSocket("udp4");
  socket.on("message", (query, client) => {
    const labels: string[] = [];
    let end = headerLength;
    for (let length = query[end] ?? 0; length > 0; length = query[end] ?? 0) {
      labels.push(query.toString("latin1", end + 1, end + 1 + length));
      end += 1 + length;
    }
    const question = query.subarray(headerLength, end + 5); // the root label, type and class
    asked.push(labels.join("."));
    // The header's ID is the client's; flags: an answer, recursion available; one question, one record.
    const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    const record = Buffer.from([
      0xc0,
      headerLength,
      0,
      1,
      0,
      1,
      0,
      0,
      0,
      60,
      0,
      4,
      ...answer.split(".").map(Number),
    ]);
    socket.send(Buffer.concat([header, question, record]), client.port, client.address);
  });
  // An address of this process's own: port 53 of others may be in use.
  const address = `127.53.${(process.pid >> 8) & 0xff}.${process.pid & 0xff || 1}`;
  socket.bind(53, address);
  await once(socket, "listening");
  return {
    address,
    asked,
    async [Symbol.asyncDispose]() {
      socket.close();
      await once(socket, "close");
    },
  };
}
