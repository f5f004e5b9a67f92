/** Listening on the addresses that users configure. */
import { readFileSync, unlinkSync } from "node:fs";
import { chmod, chown, lstat, readFile, unlink } from "node:fs/promises";
import { type AddressInfo, connect, type Server } from "node:net";
import { dirname } from "node:path";

import type { TlsFiles } from "./config/load.ts";
import { type HeldSockets, type InheritedSocket, socketFileOf } from "./held-sockets.ts";
import { conflict, errnoOf, messageOf, systemError, unlessMissing } from "./errors.ts";
import { makeDirectories } from "./make-directories.ts";
import { readOwnCertificate } from "./own-certificate.ts";

/**
 * The length of the accept queue: the kernel's maximum (SOMAXCONN); Node's default is 511. A unix socket refuses
 * clients beyond it.
 */
export const backlog = readBacklog();

/** Access to a unix socket, and its purpose. */
export interface SocketAccess {
  /** Permission bits. */
  readonly mode: number;
  /** A group that owns the socket, if the machine has it. */
  readonly group?: string;
  /** The service behind the socket, for the error message of a second process: "the Docker API". */
  readonly serves: string;
}

/**
 * Binds a listener.
 *
 * @param address `unix:///path` or `tcp://address:port`
 * @param access for a unix socket
 * @param held sockets of an earlier process, to take over the one with this address; keeps a new one
 * @returns the address in use, with the actual port in place of 0
 * @throws SockerlessError of kind `conflict` if another process already serves the address
 */
export async function listen(
  listener: Server,
  address: string,
  access: SocketAccess,
  held?: HeldSockets,
): Promise<string> {
  const path = address.startsWith("unix://") ? address.slice("unix://".length) : undefined;
  const inherited = held?.inherited.find((each) => each.address === address);
  // If its file is gone or replaced, no client can connect to the inherited socket.
  if (inherited !== undefined && (path === undefined || socketFileOf(path) === inherited.file)) {
    await listenOnInherited(listener, inherited, path);
    return inherited.boundAddress;
  }
  if (path === undefined) {
    const boundAddress = await listenOnTcp(listener, address);
    held?.hold({ address, boundAddress }, listener);
    return boundAddress;
  }
  await listenOnSocket(listener, path, access);
  held?.hold({ address, boundAddress: address, file: socketFileOf(path) ?? "" }, listener);
  return address;
}

/** The key and certificates of a listener, in PEM. Plain data, to be sent to other threads. */
export type ServerTls = Readonly<Record<"cert" | "key", string>>;

/** Those of a listener that requires client certificates, which the authority signed. */
export type MutualTls = ServerTls & { readonly ca: string };

/**
 * Reads the certificates of a TCP listener for mutual TLS: a client needs one that the authority signed.
 *
 * @throws SockerlessError that names the file which cannot be read or used
 */
export function readMutualTls(files: TlsFiles): Promise<MutualTls> {
  return readOwnCertificate(files, "serverAuth");
}

/** The TLS of one or more listeners, in this thread or another. */
export interface TlsListener {
  /** @throws SockerlessError if they cannot be used; those before stay */
  setCertificates(tls: MutualTls): Promise<void>;
}

/**
 * Makes listeners use the certificates now on disk; open connections keep theirs.
 *
 * @returns a description of what was read, for the log
 * @throws SockerlessError that names the file which cannot be read; nothing is changed then
 */
export async function reloadCertificates(
  listeners: readonly TlsListener[],
  files: TlsFiles | undefined,
): Promise<string> {
  if (files === undefined) {
    throw systemError("a listener of TLS without certificates");
  }
  const tls = await readMutualTls(files);
  for (const listener of listeners) {
    await listener.setCertificates(tls);
  }
  return `the certificates of ${listeners.length} TCP listener(s) were read again`;
}

async function listenOnSocket(listener: Server, path: string, access: SocketAccess): Promise<void> {
  await makeDirectories(dirname(path));
  await removeStaleSocket(path, access.serves);
  // Created for the owner only, then opened to the group: at no moment can everybody connect.
  const umask = process.umask(0o177);
  try {
    await bound(listener, `unix://${path}`, () => listener.listen({ path, backlog }));
  } finally {
    process.umask(umask);
  }
  const group = access.group === undefined ? undefined : await groupId(access.group);
  if (group !== undefined) {
    await chown(path, -1, group).catch((error: unknown) => {
      // A user who is neither root nor in the group cannot change the socket's group, and remains its only user.
      if (errnoOf(error) !== "EPERM") {
        throw error;
      }
    });
  }
  await chmod(path, access.mode);
}

async function listenOnInherited(
  listener: Server,
  { descriptor, boundAddress, file, isOfServiceManager }: InheritedSocket,
  path: string | undefined,
): Promise<void> {
  await bound(listener, boundAddress, () => listener.listen({ fd: descriptor }, backlog));
  if (path === undefined || isOfServiceManager === true) {
    return;
  }
  // Removes the file, as libuv does on closing a socket bound by the same process.
  const close = listener.close.bind(listener);
  listener.close = (callback) => {
    if (socketFileOf(path) === file) {
      unlinkSync(path);
    }
    return close(callback);
  };
}

async function listenOnTcp(listener: Server, address: string): Promise<string> {
  const { host, port } = parseTcpAddress(address);
  await bound(listener, address, () => listener.listen({ port, backlog, ...(host === "" ? {} : { host }) }));
  const { port: boundPort } = listener.address() as AddressInfo;
  return `tcp://${host.includes(":") ? `[${host}]` : host}:${boundPort}`;
}

/** Splits `tcp://host:port`; an IPv6 host stands in brackets there, an empty one means every address. */
export function parseTcpAddress(address: string): { readonly host: string; readonly port: number } {
  const rest = address.slice("tcp://".length);
  const colon = rest.lastIndexOf(":");
  return { host: rest.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port: Number(rest.slice(colon + 1)) };
}

async function bound(listener: Server, address: string, bind: () => void): Promise<void> {
  const listening = Promise.withResolvers<void>();
  listener.once("listening", listening.resolve);
  listener.once("error", listening.reject);
  try {
    bind();
    await listening.promise;
  } catch (error) {
    if (errnoOf(error) === "EADDRINUSE") {
      throw conflict(`${address} is in use by another process`, error);
    }
    throw systemError(`cannot listen on ${address}: ${messageOf(error)}`, error);
  } finally {
    listener.removeListener("listening", listening.resolve);
    listener.removeListener("error", listening.reject);
  }
}

/** Removes the socket file left by a killed process: without a listener it only blocks the path. */
async function removeStaleSocket(path: string, serves: string): Promise<void> {
  const stat = await lstat(path).catch(unlessMissing);
  if (stat === undefined) {
    return;
  }
  if (!stat.isSocket()) {
    throw conflict(`${path} exists and is not a socket`);
  }
  if (await isServed(path)) {
    throw conflict(`another process already serves ${serves} on unix://${path}`);
  }
  await unlink(path);
}

async function isServed(path: string): Promise<boolean> {
  const outcome = Promise.withResolvers<boolean>();
  const probe = connect(path);
  probe.once("connect", () => outcome.resolve(true));
  probe.once("error", (error) => {
    const errno = errnoOf(error);
    if (errno === "ECONNREFUSED" || errno === "ENOENT") {
      outcome.resolve(false);
    } else if (errno === "EAGAIN") {
      outcome.resolve(true); // Its queue is full, so there is a listener.
    } else {
      outcome.reject(systemError(`cannot tell whether unix://${path} is served: ${messageOf(error)}`, error));
    }
  });
  try {
    return await outcome.promise;
  } finally {
    probe.destroy();
  }
}

async function groupId(name: string): Promise<number | undefined> {
  const groups = await readFile("/etc/group", "utf8").catch(() => "");
  const line = groups.split("\n").find((each) => each.startsWith(`${name}:`));
  const id = Number(line?.split(":")[2]);
  return Number.isInteger(id) ? id : undefined;
}

function readBacklog(): number {
  try {
    return Number.parseInt(readFileSync("/proc/sys/net/core/somaxconn", "ascii"), 10) || 511;
  } catch {
    return 511; // Not Linux.
  }
}
