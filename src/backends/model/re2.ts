import { createRequire } from "node:module";

import type { RE2JS } from "re2js";

const require = createRequire(import.meta.url);

/**
 * RE2, as in Docker: JavaScript's own regular expressions may take exponential time and block every client. Loaded with
 * the first expression: most daemons see none, and it takes more than 1 MB.
 */
export function re2(): typeof RE2JS {
  return (require("re2js") as typeof import("re2js")).RE2JS;
}
