import { createRequire } from "node:module";

import type { RE2JS } from "re2js";

const require = createRequire(import.meta.url);

/**
 * Compiles an expression of RE2, as Docker's are: JavaScript's own engine may take for ever, and everybody would wait. The
 * engine is loaded with the first expression: most daemons meet none, and it takes more than 1 MB.
 *
 * @throws Error that this is no expression
 */
export function compileExpression(pattern: string): RE2JS {
  const { RE2JS: engine } = require("re2js") as typeof import("re2js");
  return engine.compile(pattern);
}
