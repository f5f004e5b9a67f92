/** Comparison of requests, from which what belongs to one start alone was taken away: a prepared task serves equal ones. */
import { createHash } from "node:crypto";

/** Parts of a request by the name that the cloud's document gives them. */
export type Parts<T> = Readonly<Record<string, (request: T) => unknown>>;

/** A digest that is the same for equal requests, in hexadecimal digits. */
export function shapeOf(request: unknown): string {
  return createHash("sha256").update(JSON.stringify(request)).digest("hex");
}

/** The names of the parts in which two requests differ. */
export function differing<T>(parts: Parts<T>, one: T, other: T): string[] {
  return Object.entries(parts)
    .filter(([, partOf]) => JSON.stringify(partOf(one)) !== JSON.stringify(partOf(other)))
    .map(([name]) => name);
}
