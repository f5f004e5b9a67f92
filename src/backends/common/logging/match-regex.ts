/** Expressions that users give, matched without leave to go on for ever: JavaScript's engine tries all ways. */
import { runInNewContext } from "node:vm";

/** Nothing else happens in this process meanwhile. */
const limitMs = 100;

/**
 * Which of some texts match an expression.
 *
 * @throws Error: to tell takes more than 100 ms
 */
export function matchingTexts(regex: RegExp, texts: readonly string[]): string[] {
  if (texts.length === 0) {
    return [];
  }
  const code = "texts.filter((text) => regex.test(text))";
  try {
    return [...(runInNewContext(code, { regex, texts }, { timeout: limitMs }) as string[])];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT") {
      throw new Error(`matching regexp takes more than ${limitMs} ms: \`${regex.source}\``, { cause: error });
    }
    throw error;
  }
}
