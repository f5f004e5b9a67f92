/** Comparison of requests without the parts that belong to one start: a prepared task can serve equal ones. */
import { createHash } from "node:crypto";

/** Parts of a request, by the names in the cloud's documentation. */
export type Parts<T> = Readonly<Record<string, (request: T) => unknown>>;

/** A digest in hexadecimal digits, the same for equal requests. */
export function shapeOf(request: unknown): string {
  return createHash("sha256").update(JSON.stringify(request)).digest("hex");
}

/** The names of the parts in which two requests differ. */
export function differing<T>(parts: Parts<T>, one: T, other: T): string[] {
  return Object.entries(parts)
    .filter(([, partOf]) => JSON.stringify(partOf(one)) !== JSON.stringify(partOf(other)))
    .map(([name]) => name);
}
