/** The resolver that a cloud has in every network: it answers for what has an address there, by UDP. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { isIP, isIPv6 } from "node:net";

/** The addresses of a name, in lower case and without the last dot; undefined for a name that there is not. */
export type Lookup = (name: string) => readonly string[] | undefined;

const headerLength = 12;
/** Types of questions for addresses, with their families. */
const types: ReadonlyMap<number, 4 | 6> = new Map([
  [1, 4],
  [28, 6],
]);
const noError = 0;
const nameError = 3;
/** A name server of the VPC keeps private records for so many seconds. */
const timeToLive = 60;

/** A running resolver. */
export class Resolver implements AsyncDisposable {
  readonly port: number;
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.port = socket.address().port;
  }

  /** @param address of this machine in the VPC */
  static async start(address: string, lookup: Lookup): Promise<Resolver> {
    const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
    socket.on("message", (query, client) => {
      const answer = answerTo(query, lookup);
      if (answer !== undefined) {
        socket.send(answer, client.port, client.address);
      }
    });
    socket.bind(0, address);
    await once(socket, "listening");
    return new Resolver(socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await closed;
  }
}

/** The answer to a query of one question; undefined for what is none. RFC 1035, section 4. */
export function answerTo(query: Buffer, lookup: Lookup): Buffer | undefined {
  const labels: string[] = [];
  let end = headerLength;
  for (let length = query[end] ?? 0; length > 0; length = query[end] ?? 0) {
    if (length > 63) {
      return undefined;
    }
    labels.push(query.toString("latin1", end + 1, end + 1 + length));
    end += 1 + length;
  }
  end += 1;
  if (query.length < end + 4 || query.readUInt16BE(4) !== 1) {
    return undefined;
  }
  const found = lookup(labels.join(".").toLowerCase());
  const type = query.readUInt16BE(end);
  const addresses = (found ?? []).filter((address) => isIP(address) === types.get(type));
  const header = Buffer.alloc(headerLength);
  query.copy(header, 0, 0, 2);
  // A response, recursion available, and recursion desired as it was asked for.
  header[2] = 0x80 | ((query[2] ?? 0) & 0x01);
  header[3] = 0x80 | (found === undefined ? nameError : noError);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(addresses.length, 6);
  return Buffer.concat([
    header,
    query.subarray(headerLength, end + 4),
    ...addresses.map((address) => record(type, address)),
  ]);
}

/** A record whose name is the question's. */
function record(type: number, address: string): Buffer {
  const data = bytesOf(address);
  const bytes = Buffer.alloc(12 + data.length);
  bytes.writeUInt16BE(0xc000 | headerLength, 0);
  bytes.writeUInt16BE(type, 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt32BE(timeToLive, 6);
  bytes.writeUInt16BE(data.length, 10);
  bytes.set(data, 12);
  return bytes;
}

/** The bytes of an address of either family. */
function bytesOf(address: string): number[] {
  if (isIP(address) === 4) {
    return address.split(".").map(Number);
  }
  const [before = "", after = ""] = address.split("::");
  const groupsOf = (text: string): number[] =>
    text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16));
  const [first, last] = [groupsOf(before), groupsOf(after)];
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => 0);
  return [...first, ...zeros, ...last].flatMap((group) => [group >> 8, group & 0xff]);
}
