/**
 * The ID by which one request of a Docker client is followed through frontend, backend and agents. It belongs to
 * everything that is done for the request: log lines carry it, and so do the calls to other processes.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";

/** The header of calls between processes, and of the answer to the client. */
export const requestIdHeader = "sockerless-request-id";

/** Form of an ID that is taken from another process: it goes into our log. */
const legal = /^[0-9A-Za-z-]{1,64}$/;

const current = new AsyncLocalStorage<string | undefined>();

/** A new ID: 16 hexadecimal digits. */
export function newRequestId(): string {
  return randomUUID().replaceAll("-", "").slice(0, 16); // Node makes many at once; bytes alone take 50 µs each.
}

/** The ID of the request that this is done for; undefined outside of any request. */
export function currentRequestId(): string | undefined {
  return current.getStore();
}

/** Does something for a request. @param id anything but a legal ID counts as none */
export function forRequest<T>(id: unknown, action: () => T): T {
  return current.run(typeof id === "string" && legal.test(id) ? id : undefined, action);
}

/** The header that names the current request; empty where there is none. */
export function requestIdHeaders(): Record<string, string> {
  const id = currentRequestId();
  return id === undefined ? {} : { [requestIdHeader]: id };
}
