/** Bound on the number of values in a large body: the backend's cost of decoding and storing grows with it. */
import { invalid } from "../../common/errors.ts";

/** Maximum number of values: enough for 25,000 ports, exposed and bound. */
const maxValues = 50_000;

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;

/**
 * Counts the values in a text that may be JSON.
 *
 * @throws SockerlessError of kind `invalid` where they are too many
 */
export function checkComplexity(bytes: Uint8Array): void {
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
  if (commas >= maxValues) {
    throw invalid(`invalid JSON: more than ${maxValues} values`);
  }
}
