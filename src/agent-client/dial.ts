/** One transport connection to an agent, authenticated before a byte of HTTP/2 is sent. */
import { createHash, timingSafeEqual } from "node:crypto";
import { request as requestHttp } from "node:http";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { connect as connectNet, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";

import { Code, ConnectError } from "@connectrpc/connect";

import {
  agentPeer,
  type CalledAddress,
  type ClientCredentials,
  type DialTarget,
  describeAddress,
} from "./address.ts";
import { messageOf } from "../common/errors.ts";
import { EmptyFrames } from "./empty-frames.ts";
import { AgentGoneError, Link } from "./link.ts";
import { pemOptions, secureContextOf } from "./secure-context.ts";

/** HTTP/2's default frame of 16 KiB costs 40 % of the throughput. */
const maxFrameSize = 1024 * 1024;
/** Bytes that an agent may send on one stream before we read them, unless streams share memory. */
const streamWindow = 4 * 1024 * 1024;
/** Bytes in flight on a connection: Node gives its window back as data arrives, whoever reads it. */
const connectionWindow = 16 * 1024 * 1024;
/** Megabytes of a session: Node refuses streams beyond it, and a few stalled ones reach its default, 10. */
const maxSessionMemory = 2048;

const connectTimeoutMs = 10_000;

/** Header of a `CONNECT` to the relay of agents that call: the agent's pin, hexadecimal. */
export const agentPinHeader = "sockerless-agent-pin";

/** Settings of a connection. */
export interface DialOptions {
  /** How much the agent may send on one stream before we have read it, bytes. */
  readonly window?: number | undefined;
  /** Whether it goes on after a cut, where the agent is one that calls. */
  readonly outlivesCuts?: boolean | undefined;
}

/** An HTTP/2 session to an agent. */
export interface Dialled {
  readonly session: ClientHttp2Session;
  /** The connection beneath, where it goes on after a cut. */
  readonly link: Link | undefined;
  /** Bounds what comes beside the answers of its streams. */
  readonly emptyFrames: EmptyFrames;
}

/**
 * Connects and opens an HTTP/2 session.
 *
 * @throws ConnectError `Unavailable` when nobody answers, `Internal` when another than the pinned key answers
 */
export async function dial(
  target: DialTarget,
  { window = streamWindow, outlivesCuts = false }: DialOptions = {},
): Promise<Dialled> {
  const { address } = target;
  const link =
    address.kind === "called" && outlivesCuts
      ? await Link.open(() => connectThrough(target, address))
      : undefined;
  const socket = await connectSocket(target, link);
  const session = connectHttp2("http://agent", {
    createConnection: () => socket,
    maxSessionMemory,
    settings: { maxFrameSize, initialWindowSize: window, enablePush: false },
  });
  // Those who wait for a stream, or for the session below, are told; without this listener it would end the process.
  session.on("error", () => {});
  const emptyFrames = new EmptyFrames(session);
  await settled(session, socket, target);
  session.setLocalWindowSize(connectionWindow);
  return { session, link, emptyFrames };
}

/** Resolves once the peer has said how many streams it takes: before that a client knows no limit. */
function settled(session: ClientHttp2Session, socket: Socket, target: DialTarget): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => session.destroy(silence()), connectTimeoutMs);
    const fail = (error?: Error): void => {
      clearTimeout(timer);
      session.destroy();
      reject(unreachable(target, error ?? new Error("the connection was closed")));
    };
    session.once("error", fail);
    session.once("close", fail);
    // A session is not told of a TLS alert, which is how an agent refuses a client.
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

function silence(): Error {
  return new Error(`no answer within ${connectTimeoutMs / 1000} s`);
}

async function connectSocket(target: DialTarget, link: Link | undefined): Promise<Socket> {
  const { address } = target;
  switch (address.kind) {
    case "unix":
      return await connected(connectNet({ path: address.path }), "connect", target);
    case "tcp":
      return await connectToPinned(target, address.pin, { host: address.host, port: address.port });
    case "called": {
      const socket: Duplex = link ?? (await connectThrough(target, address));
      return await connectToPinned(target, address.pin, { socket });
    }
    case "relay": {
      const { host, port, authority } = address;
      return await connectSecurely(target, {
        host,
        port,
        ...pemOptions(credentialsOf(target)),
        ca: authority,
      });
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

/** The agent made its certificate itself: its key is what identifies it, and that is compared. */
async function connectToPinned(
  target: DialTarget,
  pin: Uint8Array,
  way: ConnectionOptions,
): Promise<TLSSocket> {
  const secureContext = secureContextOf(credentialsOf(target));
  const socket = await connectSecurely(target, { ...way, secureContext, rejectUnauthorized: false });
  verifyPin(socket, pin, target);
  return socket;
}

/** The connection that the relay of agents that call has joined with one of the agent's. */
function connectThrough(target: DialTarget, { path, pin }: CalledAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const request = requestHttp({
      socketPath: path,
      method: "CONNECT",
      path: `${target.containerId ?? ""}:0`,
      headers: { [agentPinHeader]: Buffer.from(pin).toString("hex") },
      agent: false,
    });
    const timer = setTimeout(() => request.destroy(silence()), connectTimeoutMs);
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

async function connectSecurely(target: DialTarget, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connectTls({ ALPNProtocols: ["h2"], ...options });
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 30_000);
  await connected(socket, "secureConnect", target);
  return socket;
}

/** Resolves once the socket is connected; it is destroyed if it is not in time. */
function connected(socket: Socket, event: "connect" | "secureConnect", target: DialTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy(silence());
    }, connectTimeoutMs);
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
