/** Bound on the number of values in a large body: the backend's cost of decoding and storing grows with it. */
import { invalid } from "../../common/errors.ts";
import { countValues } from "../../common/json-values.ts";

/** Maximum number of values: enough for 25,000 ports, exposed and bound. */
const maxValues = 50_000;

/** @throws SockerlessError of kind `invalid`: a text that may be JSON has too many values */
export function checkComplexity(bytes: Uint8Array): void {
  if (countValues(bytes) > maxValues) {
    throw invalid(`invalid JSON: more than ${maxValues} values`);
  }
}
