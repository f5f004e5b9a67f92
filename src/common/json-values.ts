/** A measure of the work that a JSON document makes. */

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const list = 0x5b;
const object = 0x7b;
const listEnd = 0x5d;
const objectEnd = 0x7d;

/** Sizes of a JSON document. */
export interface JsonSize {
  /** Values in its lists and objects. */
  readonly values: number;
  /** Lists and objects, which may be nested to any depth without another value. */
  readonly structures: number;
  /** Both together. */
  readonly total: number;
  /** Lists and objects in each other. */
  readonly depth: number;
}

/** Counts what a text that may be JSON has, by its commas and brackets: it is not parsed. */
export function sizeOfJson(bytes: Uint8Array): JsonSize {
  let commas = 0;
  let structures = 0;
  let open = 0;
  let depth = 0;
  let isInText = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (isInText) {
      if (byte === backslash) {
        at += 1;
      } else if (byte === quote) {
        isInText = false;
      }
    } else if (byte === quote) {
      isInText = true;
    } else if (byte === comma) {
      commas += 1;
    } else if (byte === list || byte === object) {
      structures += 1;
      open += 1;
      depth = Math.max(depth, open);
    } else if (byte === listEnd || byte === objectEnd) {
      open -= 1;
    }
  }
  const values = commas + 1;
  return { values, structures, total: values + structures, depth };
}
