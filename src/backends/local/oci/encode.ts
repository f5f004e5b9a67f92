import type { OciSpec } from "./types.ts";

/** `JSON.rawJSON`, which Node has and the compiler's library does not name. */
const rawJson = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON;

/**
 * config.json as bytes. Integers that a double cannot hold (an unlimited
 * rlimit is 2^64 − 1) are bigints and are written digit for digit.
 */
export function encodeOciSpec(spec: OciSpec): Uint8Array {
  const text = JSON.stringify(spec, (_key, value: unknown) =>
    typeof value === "bigint" ? rawJson(value.toString()) : value,
  );
  return new TextEncoder().encode(text);
}
