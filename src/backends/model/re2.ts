import { createRequire } from "node:module";

import type { RE2JS } from "re2js";

const require = createRequire(import.meta.url);

/**
 * The engine of RE2's expressions, as Docker's are: JavaScript's own may take for ever, and everybody would wait. It is
 * loaded with the first expression: most daemons meet none, and it takes more than 1 MB.
 */
export function re2(): typeof RE2JS {
  return (require("re2js") as typeof import("re2js")).RE2JS;
}
