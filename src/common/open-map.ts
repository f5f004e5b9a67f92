/** Maps of documents whose keys others choose. */
import { z } from "zod";

/** A map with every key that the document has: zod's `record` leaves `__proto__` out. */
export function openMap<Value>(value: z.ZodType<Value>) {
  return z
    .custom<object>((given) => typeof given === "object" && given !== null && !Array.isArray(given), {
      error: "Invalid input: expected record",
    })
    .transform((given, context): Record<string, Value> => {
      const entries = Object.entries(given).map(([key, each]) => {
        const parsed = value.safeParse(each);
        for (const { message } of parsed.error?.issues ?? []) {
          context.addIssue({ code: "custom", message, path: [key] });
        }
        return [key, parsed.data as Value] as const;
      });
      return Object.fromEntries(entries);
    });
}
