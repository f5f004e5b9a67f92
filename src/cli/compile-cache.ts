/**
 * Keeps compiled code beside the sources that it came from, which halves the start-up time. Not in Node's default
 * place: that is in the temporary directory, where another user could plant code for root to run. Imported first.
 */
import { enableCompileCache } from "node:module";
import { fileURLToPath } from "node:url";

enableCompileCache(fileURLToPath(new URL("../../.compile-cache", import.meta.url)));
