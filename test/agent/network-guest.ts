/**
 * A program inside the network of a container: it serves and connects as the container's processes would. Run by
 * {@link NetworkGuest}, which sends it the questions below.
 */
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { connect, createServer, isIP, type Server, type Socket } from "node:net";
import { pipeline } from "node:stream";

/** Questions to a guest, each with its answer. */
export interface GuestCalls {
  /** Passes what connects to a port of the loopback on to a unix socket outside. */
  gate(port: number, path: string): Promise<void>;
  /** Serves on TCP: tells each client, in a line, from where it came, then echoes. @throws EADDRINUSE */
  serve(host: string, port: number): Promise<void>;
  /** Ends that. */
  leave(port: number): Promise<void>;
  /** Answers datagrams with where they came from and what they held. */
  serveDatagrams(host: string, port: number): Promise<void>;
  /** IPv4 addresses of a name as the container's resolver tells them. */
  resolve(name: string): Promise<string[]>;
  /** Connects by name or address, says something and reads to the end. @returns the lines that came */
  talk(name: string, port: number, text: string): Promise<string[]>;
  /** The same with datagrams: asks until there is an answer. */
  exchange(name: string, port: number, text: string): Promise<string>;
  /** Opens a connection by name that stays. @returns the line that came */
  hold(name: string, port: number): Promise<string>;
  /** Resolves once the connection that stays is gone, with why. */
  lost(): Promise<string>;
  /** Sends so many bytes by name and reads them again. @throws Error: others came, or not all of them */
  bulk(name: string, port: number, bytes: number): Promise<void>;
}

const servers = new Map<number, Server>();
let held: { readonly socket: Socket; readonly gone: Promise<string> } | undefined;

const resolver = new Resolver({ timeout: 20_000, tries: 1 });
resolver.setServers(["127.0.0.11"]);

async function connected(name: string, port: number): Promise<Socket> {
  const [host] = isIP(name) === 0 ? await resolver.resolve4(name) : [name];
  const socket = connect({ host: host ?? "", port });
  await once(socket, "connect");
  return socket;
}

async function served(server: Server, port: number, host: string): Promise<void> {
  server.listen(port, host);
  await once(server, "listening");
  servers.set(port, server);
}

const calls: GuestCalls = {
  gate: (port, path) =>
    served(
      createServer({ noDelay: true }, (socket) => {
        const there = connect({ path });
        pipeline(socket, there, socket, () => {});
      }),
      port,
      "127.0.0.1",
    ),
  serve: (host, port) =>
    served(
      createServer((socket) => {
        socket.on("error", () => {});
        socket.write(`from ${socket.remoteAddress}\n`);
        socket.pipe(socket);
      }),
      port,
      host,
    ),
  async leave(port) {
    servers.get(port)?.close();
    await Promise.resolve();
  },
  async serveDatagrams(host, port) {
    const socket = createSocket("udp4");
    socket.on("message", (message, { address, port: from }) => {
      socket.send(`from ${address}: ${message.toString()}`, from, address);
    });
    socket.bind(port, host);
    await once(socket, "listening");
  },
  resolve: (name) => resolver.resolve4(name),
  async talk(name, port, text) {
    const socket = await connected(name, port);
    socket.end(`${text}\n`);
    const chunks = await socket.toArray();
    return Buffer.concat(chunks as Buffer[])
      .toString()
      .trimEnd()
      .split("\n");
  },
  async exchange(name, port, text) {
    const [host] = await resolver.resolve4(name);
    const socket = createSocket("udp4");
    const answer = once(socket, "message");
    const again = setInterval(() => socket.send(text, port, host), 100);
    try {
      const [message] = (await answer) as [Buffer];
      return message.toString();
    } finally {
      clearInterval(again);
      socket.close();
    }
  },
  async hold(name, port) {
    const socket = await connected(name, port);
    const gone = Promise.withResolvers<string>();
    socket.once("error", ({ message }) => gone.resolve(message));
    socket.once("close", () => gone.resolve("closed"));
    held = { socket, gone: gone.promise };
    const [line] = (await once(socket, "data")) as [Buffer];
    return line.toString().trimEnd();
  },
  lost: async () => (await held?.gone) ?? "nothing is held",
  async bulk(name, port, bytes) {
    const socket = await connected(name, port);
    await once(socket, "data"); // From where it came.
    const sent = randomBytes(bytes);
    socket.end(sent);
    const received = Buffer.concat((await socket.toArray()) as Buffer[]);
    if (!received.equals(sent)) {
      throw new Error(`${received.length} bytes came, ${sent.length} were sent`);
    }
  },
};

/** One question, as it comes from the other process. */
export interface GuestQuestion {
  readonly number: number;
  readonly call: keyof GuestCalls;
  readonly args: readonly unknown[];
}

/** Its answer. */
export interface GuestAnswer {
  readonly number: number;
  readonly value?: unknown;
  readonly failure?: string;
}

process.on("message", ({ number, call, args }: GuestQuestion) => {
  const asked = calls[call] as (...given: readonly unknown[]) => Promise<unknown>;
  asked(...args).then(
    (value) => process.send?.({ number, value } satisfies GuestAnswer),
    (error: Error) => process.send?.({ number, failure: error.message } satisfies GuestAnswer),
  );
});
process.once("disconnect", () => process.exit());
