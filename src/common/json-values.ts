/** A measure of the work that a JSON document makes. */

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;

/** The number of values in the lists and objects of a text that may be JSON, by its commas: it is not parsed. */
export function countValues(bytes: Uint8Array): number {
  let commas = 0;
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
    }
  }
  return commas + 1;
}
