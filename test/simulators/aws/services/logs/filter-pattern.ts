/** Filter patterns of unstructured events: terms and quoted phrases, all of which an event must have. */
import { AwsFault } from "../../wire/service.ts";

/**
 * A test of messages.
 *
 * @throws AwsFault with status 501 for a pattern of another kind
 */
export function filterTest(pattern: string): (message: string) => boolean {
  const terms = pattern.match(/"[^"]*"|\S+/g) ?? [];
  const texts = terms.map((term) => {
    if (/^"[^"]*"$/.test(term)) {
      return term.slice(1, -1);
    }
    if (!/^\w+$/.test(term)) {
      throw new AwsFault("InvalidParameterException", `The filter pattern ${pattern} is not simulated`, 501);
    }
    return term;
  });
  return (message) => texts.every((text) => message.includes(text));
}
