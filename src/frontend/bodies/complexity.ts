/** Bounds on the numbers of values in a large body: the cost of decoding and storing it grows with them. */
import { invalid } from "../../common/errors.ts";
import { sizeOfJson } from "../../common/json-values.ts";

/** Maximum number of values: enough for 25,000 ports, exposed and bound. */
const maxValues = 50_000;

/** Maximum number of lists and objects: those ports have three each. */
const maxStructures = 2 * maxValues;

/** Maximum number of lists and objects in each other, as in Go's decoder. */
const maxDepth = 10_000;

/** @throws SockerlessError of kind `invalid`: a text that may be JSON has too many values, lists or objects */
export function checkComplexity(bytes: Uint8Array): void {
  const { values, structures, depth } = sizeOfJson(bytes);
  if (values > maxValues) {
    throw invalid(`invalid JSON: more than ${maxValues} values`);
  }
  if (structures > maxStructures) {
    throw invalid(`invalid JSON: more than ${maxStructures} lists and objects`);
  }
  if (depth > maxDepth) {
    throw invalid("invalid JSON: exceeded max depth");
  }
}
