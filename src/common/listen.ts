/** Binding listeners to the addresses that users configure. */
import { chmod, chown, lstat, mkdir, readFile, unlink } from "node:fs/promises";
import { type AddressInfo, connect, type Server } from "node:net";
import { dirname } from "node:path";
import type { TlsOptions } from "node:tls";

import type { TlsFiles } from "./config/load.ts";
import { conflict, errnoOf, fromFileError, messageOf, systemError } from "./errors.ts";

/** Who may use a unix socket. */
export interface SocketAccess {
  /** Permission bits. */
  readonly mode: number;
  /** A group that gets the socket where the machine has it. */
  readonly group?: string;
  /** What is served there, for the message to a second process: "the Docker API". */
  readonly serves: string;
}

/**
 * Binds a listener.
 *
 * @param address `unix:///path` or `tcp://address:port`
 * @param access for a unix socket
 * @returns the address that it listens on, with the port where 0 was asked for
 * @throws SockerlessError of kind `conflict` where another process serves the address already
 */
export async function listen(listener: Server, address: string, access: SocketAccess): Promise<string> {
  if (address.startsWith("unix://")) {
    await listenOnSocket(listener, address.slice("unix://".length), access);
    return address;
  }
  return listenOnTcp(listener, address);
}

/**
 * What a TCP listener needs for mutual TLS: nobody is served whose certificate the authority did not sign.
 *
 * @throws SockerlessError that names the file which cannot be read
 */
export async function mutualTlsOptions(files: TlsFiles): Promise<TlsOptions> {
  const [ca, cert, key] = await Promise.all([read(files.ca), read(files.cert), read(files.key)]);
  return { ca, cert, key, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" };
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw fromFileError(error, `${path}: ${messageOf(error)}`);
  }
}

async function listenOnSocket(listener: Server, path: string, access: SocketAccess): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await removeStaleSocket(path, access.serves);
  // Made for the owner alone, then opened to the group: there is no moment in which everybody could connect.
  const umask = process.umask(0o177);
  try {
    await bound(listener, `unix://${path}`, () => listener.listen(path));
  } finally {
    process.umask(umask);
  }
  const group = access.group === undefined ? undefined : await groupId(access.group);
  if (group !== undefined) {
    await chown(path, -1, group).catch((error: unknown) => {
      // Whoever is neither root nor a member cannot give it to the group, and keeps it for himself.
      if (errnoOf(error) !== "EPERM") {
        throw error;
      }
    });
  }
  await chmod(path, access.mode);
}

async function listenOnTcp(listener: Server, address: string): Promise<string> {
  const { host, port } = parseTcpAddress(address);
  await bound(listener, address, () => listener.listen({ port, ...(host === "" ? {} : { host }) }));
  const { port: boundPort } = listener.address() as AddressInfo;
  return `tcp://${host.includes(":") ? `[${host}]` : host}:${boundPort}`;
}

function parseTcpAddress(address: string): { readonly host: string; readonly port: number } {
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

/** A socket file outlives a process that was killed. One that nobody listens on is in the way and nothing else. */
async function removeStaleSocket(path: string, serves: string): Promise<void> {
  const stat = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") {
      return undefined;
    }
    throw error;
  });
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
      outcome.resolve(true); // Its queue is full, so there is somebody.
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
