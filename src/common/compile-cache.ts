/**
 * Caches compiled code beside its sources, which shortens every start after the first. Node's default place, the
 * temporary directory, would let another user plant code for root to run. Imported first, for its side effect, by
 * programs that are short-lived or small; a worker thread shares its program's cache.
 */
import { enableCompileCache } from "node:module";
import { fileURLToPath } from "node:url";

enableCompileCache(fileURLToPath(new URL("../../.compile-cache", import.meta.url)));
