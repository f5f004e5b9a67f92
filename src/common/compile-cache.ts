/**
 * Keeps compiled code beside the sources that it came from, which shortens every start after the first. Not in Node's
 * default place: that is in the temporary directory, where another user could plant code for root to run. Imported
 * first, for its effect, by programs that are short-lived or small; a worker thread shares its program's cache.
 */
import { enableCompileCache } from "node:module";
import { fileURLToPath } from "node:url";

enableCompileCache(fileURLToPath(new URL("../../.compile-cache", import.meta.url)));
