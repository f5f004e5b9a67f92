/** Linux capabilities by the names that users write. */
import { invalid } from "../../../../../../common/errors.ts";
import { capabilitiesByBit } from "../../../../linux-capabilities.ts";

/**
 * Capabilities with `CAP_` and in upper case, `ALL` as it is.
 *
 * @param field the setting they stand in, for the message
 * @throws invalid: one that Linux does not have
 */
export function normalizeCapabilities(names: readonly string[], field: "CapAdd" | "CapDrop"): string[] {
  return names.map((name) => {
    const upper = name.toUpperCase();
    if (upper === "ALL") {
      return upper;
    }
    const capability = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (!capabilitiesByBit.includes(capability)) {
      throw invalid(`invalid ${field}: unknown capability: "${capability}"`);
    }
    return capability;
  });
}
