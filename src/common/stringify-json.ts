/** Verbatim JSON text inside a value; in Node, not yet in TypeScript's library. */
const rawJson = (JSON as unknown as { readonly rawJSON: (text: string) => object }).rawJSON;

/**
 * Encodes JSON with `bigint` as a number: sizes and nanosecond times in Docker's JSON, and an unlimited rlimit in that of OCI,
 * have 64 bits, more than a `number` holds.
 */
export function stringifyJson(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) =>
    typeof each === "bigint" ? rawJson(each.toString()) : each,
  );
}
