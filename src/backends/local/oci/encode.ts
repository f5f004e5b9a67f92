import type { OciSpec } from "./types.ts";

/** `JSON.rawJSON`, which Node has but TypeScript's library does not declare. */
const rawJson = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON;

/**
 * Encodes config.json. Integers beyond a double's precision (an unlimited rlimit is 2^64 − 1) are bigints, written with
 * all digits.
 */
export function encodeOciSpec(spec: OciSpec): Uint8Array {
  const text = JSON.stringify(spec, (_key, value: unknown) =>
    typeof value === "bigint" ? rawJson(value.toString()) : value,
  );
  return new TextEncoder().encode(text);
}
