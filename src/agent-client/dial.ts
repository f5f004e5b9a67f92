/** A transport connection to an agent, authenticated before any HTTP/2 is sent. */
import { createHash, timingSafeEqual } from "node:crypto";
import { request as requestHttp } from "node:http";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { connect as connectNet, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";

import { Code, ConnectError } from "@connectrpc/connect";

import {
  agentPeer,
  type CalledAddress,
  type ClientCredentials,
  type DialTarget,
  describeAddress,
  type NetworkAddress,
} from "./address.ts";
import { messageOf } from "../common/errors.ts";
import { DearHandshakes } from "./dear-handshakes.ts";
import { EmptyFrames } from "./empty-frames.ts";
import { AgentGoneError, Link } from "./link.ts";
import { pemOptions, secureContextOf } from "./secure-context.ts";
import { limitThinRecords } from "./thin-records.ts";

/** HTTP/2's default frame size of 16 KiB costs 40 % of the throughput. */
const maxFrameSize = 1024 * 1024;
/** Bytes that an agent may send on a stream before we read them, if streams do not share a budget. */
const streamWindow = 4 * 1024 * 1024;
/** Bytes in flight on a connection: Node reopens its window as data arrives, whether or not it is read. */
const connectionWindow = 16 * 1024 * 1024;
/** Memory limit of a session in MB: beyond it Node refuses streams, and a few stalled ones reach its default of 10. */
const maxSessionMemory = 2048;

/** Time limit of a connection: an address that nobody has drops it silently. */
const connectTimeoutMs = 10_000;
/** Time limit of each answer of an agent, or of its relay: on a busy machine a handshake takes seconds. */
const answerTimeoutMs = 30_000;

const dearHandshakes = new DearHandshakes();

/** Header of a `CONNECT` to the relay of calling agents: the agent's pin in hexadecimal. */
export const agentPinHeader = "sockerless-agent-pin";

export interface DialOptions {
  /** Bytes that the agent may send on a stream before we read them. */
  readonly window?: number | undefined;
  /** Whether the connection to a calling agent resumes after a cut. */
  readonly outlivesCuts?: boolean | undefined;
}

/** An HTTP/2 session to an agent. */
export interface Dialled {
  readonly session: ClientHttp2Session;
  /** The underlying link, if it resumes after a cut. */
  readonly link: Link | undefined;
  /** Limits frames other than the responses of its streams. */
  readonly emptyFrames: EmptyFrames;
}

/**
 * Connects and opens an HTTP/2 session.
 *
 * @throws ConnectError `Unavailable` if nothing answers, `Internal` if the server's key is not the pinned one
 */
export async function dial(
  target: DialTarget,
  { window = streamWindow, outlivesCuts = false }: DialOptions = {},
): Promise<Dialled> {
  const { address } = target;
  const link =
    address.kind === "called" && outlivesCuts
      ? await Link.open(() => connectThrough(target, address), {
          agent: Buffer.from(address.pin).toString("hex"),
        })
      : undefined;
  const socket = await connectSocket(target, link);
  const session = connectHttp2("http://agent", {
    createConnection: () => socket,
    maxSessionMemory,
    settings: { maxFrameSize, initialWindowSize: window, enablePush: false },
  });
  closeAtOnce(session, socket);
  // Errors reach the waiting callers elsewhere; without this listener they would end the process.
  session.on("error", () => {});
  const emptyFrames = new EmptyFrames(session);
  await settled(session, socket, target);
  session.setLocalWindowSize(connectionWindow);
  return { session, link, emptyFrames };
}

/**
 * Closes the connection as soon as its session is destroyed: Node would wait for what is being written, which a peer may
 * never read.
 */
function closeAtOnce(session: ClientHttp2Session, socket: Socket): void {
  const destroy = session.destroy.bind(session);
  session.destroy = (...reason) => {
    destroy(...reason);
    setImmediate(() => socket.destroy());
  };
}

/** Resolves once the peer has sent its limit of concurrent streams, which is unknown before. */
function settled(session: ClientHttp2Session, socket: Socket, target: DialTarget): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => session.destroy(silence(answerTimeoutMs)), answerTimeoutMs);
    const fail = (error?: Error): void => {
      clearTimeout(timer);
      session.destroy();
      reject(unreachable(target, error ?? new Error("the connection was closed")));
    };
    session.once("error", fail);
    session.once("close", fail);
    // A session gets no event for a TLS alert, by which an agent refuses a client.
    socket.once("error", fail);
    session.once("remoteSettings", () => {
      clearTimeout(timer);
      session.off("error", fail);
      session.off("close", fail);
      socket.off("error", fail);
      resolve();
    });
  });
}

function silence(limitMs: number): Error {
  return new Error(`no answer within ${limitMs / 1000} s`);
}

async function connectSocket(target: DialTarget, link: Link | undefined): Promise<Socket> {
  const { address } = target;
  switch (address.kind) {
    case "unix":
      return await connected(connectNet({ path: address.path }), "connect", target);
    case "tcp":
      return await connectDirectly(target, address);
    case "called":
      return await connectToPinned(target, address.pin, () => link ?? connectThrough(target, address));
    case "relay": {
      const { host, port, authority } = address;
      const options = { host, ...pemOptions(credentialsOf(target)), ca: authority };
      return await connectSecurely(target, connectNet(port, host), options);
    }
  }
}

function credentialsOf({ address, credentials }: DialTarget): ClientCredentials {
  if (credentials === undefined) {
    throw new ConnectError(
      `the agent at ${describeAddress(address)} demands a client certificate and there is none`,
      Code.Internal,
    );
  }
  return credentials;
}

/** Connects to an agent that is dialled, unless its last handshake was too long. */
async function connectDirectly(target: DialTarget, { host, port, pin }: NetworkAddress): Promise<TLSSocket> {
  const key = Buffer.from(pin).toString("hex");
  if (dearHandshakes.has(key)) {
    throw unreachable(target, new Error("its last handshake was too long"));
  }
  let carrier: Socket | undefined;
  try {
    return await connectToPinned(target, pin, () => (carrier = connectNet(port, host)));
  } finally {
    dearHandshakes.note(key, carrier?.bytesRead ?? 0);
  }
}

/** Authenticates an agent by its key, as its certificate is self-signed. */
async function connectToPinned(
  target: DialTarget,
  pin: Uint8Array,
  connect: () => Socket | Link | Promise<Socket>,
): Promise<TLSSocket> {
  const options = { secureContext: secureContextOf(credentialsOf(target)), rejectUnauthorized: false };
  const socket = await connectSecurely(target, await connect(), options);
  verifyPin(socket, pin, target);
  return socket;
}

/** Connects to a calling agent through its relay, which joins this connection with one of the agent's. */
function connectThrough(target: DialTarget, { path, pin }: CalledAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const request = requestHttp({
      socketPath: path,
      method: "CONNECT",
      path: `${target.containerId ?? ""}:0`,
      headers: { [agentPinHeader]: Buffer.from(pin).toString("hex") },
      agent: false,
    });
    const timer = setTimeout(() => request.destroy(silence(answerTimeoutMs)), answerTimeoutMs);
    request.once("error", (error) => {
      clearTimeout(timer);
      reject(unreachable(target, error));
    });
    request.once("connect", ({ statusCode, statusMessage }, socket: Socket) => {
      clearTimeout(timer);
      if (statusCode === 200) {
        resolve(socket);
      } else {
        socket.destroy();
        const reason = statusCode === 410 ? new AgentGoneError(statusMessage) : new Error(statusMessage);
        reject(unreachable(target, reason));
      }
    });
    request.end();
  });
}

async function connectSecurely(
  target: DialTarget,
  carrier: Socket | Link,
  options: ConnectionOptions,
): Promise<TLSSocket> {
  const socket = connectTls({ ALPNProtocols: ["h2"], ...options, socket: carrier });
  limitThinRecords(socket, () => receivedOf(carrier));
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 30_000);
  await connected(socket, "secureConnect", target);
  return socket;
}

function receivedOf(carrier: Socket | Link): number {
  return carrier instanceof Link ? carrier.rawReceived : carrier.bytesRead;
}

/** Resolves once the socket is connected; destroys it on timeout. */
function connected(socket: Socket, event: "connect" | "secureConnect", target: DialTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const limit = (ms: number) => setTimeout(() => socket.destroy(silence(ms)), ms);
    let timer = limit(target.address.kind === "called" ? answerTimeoutMs : connectTimeoutMs);
    socket.once("connect", () => {
      clearTimeout(timer);
      timer = limit(answerTimeoutMs);
    });
    const fail = (error?: Error): void => {
      clearTimeout(timer);
      reject(unreachable(target, error ?? new Error("the connection was closed")));
    };
    socket.once("error", fail);
    socket.once("close", fail);
    socket.once(event, () => {
      clearTimeout(timer);
      socket.off("error", fail);
      socket.off("close", fail);
      resolve(socket);
    });
  });
}

function verifyPin(socket: TLSSocket, pin: Uint8Array, target: DialTarget): void {
  const certificate = socket.getPeerX509Certificate();
  const spki = certificate?.publicKey.export({ type: "spki", format: "der" });
  const shown = createHash("sha256")
    .update(spki ?? "")
    .digest();
  if (spki === undefined || pin.length !== shown.length || !timingSafeEqual(shown, pin)) {
    socket.on("error", () => {});
    socket.destroy();
    throw new ConnectError(
      `the agent at ${describeAddress(target.address)} shows another key than the one it is known by`,
      Code.Internal,
    );
  }
}

function unreachable(target: DialTarget, cause: Error): ConnectError {
  const { address, peer = agentPeer } = target;
  const message = `cannot reach ${peer} at ${describeAddress(address)}: ${messageOf(cause)}`;
  return new ConnectError(message, Code.Unavailable, undefined, undefined, cause);
}
