/**
 * The ID that follows a Docker client's request through frontend, backend and agents. Log lines carry it, and so do
 * calls to other processes.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";

/** The header of calls between processes, and of the client's response. */
export const requestIdHeader = "sockerless-request-id";

/** Format of an ID accepted from another process: it ends up in our log. */
const legal = /^[0-9A-Za-z-]{1,64}$/;

const current = new AsyncLocalStorage<string | undefined>();

/** A new ID: 16 hexadecimal digits. */
export function newRequestId(): string {
  return randomUUID().replaceAll("-", "").slice(0, 16); // Node generates UUIDs in batches; randomBytes takes 50 µs per call.
}

/** The ID of the current request; undefined outside of any request. */
export function currentRequestId(): string | undefined {
  return current.getStore();
}

/** Runs an action as part of a request. @param id ignored unless a legal ID */
export function forRequest<T>(id: unknown, action: () => T): T {
  return current.run(typeof id === "string" && legal.test(id) ? id : undefined, action);
}

/** The header with the current request's ID; empty outside of any request. */
export function requestIdHeaders(): Record<string, string> {
  const id = currentRequestId();
  return id === undefined ? {} : { [requestIdHeader]: id };
}
