/**
 * Preloaded by tests that run from source: loads TypeScript, and takes a file of the name that it has when it is compiled
 * (`new URL("./worker.js", import.meta.url)`) for its source.
 */
import { registerHooks } from "node:module";

import "tsx";

registerHooks({
  resolve(specifier, context, next) {
    try {
      return next(specifier, context);
    } catch (error) {
      if (error.code !== "ERR_MODULE_NOT_FOUND" || !specifier.endsWith(".js")) {
        throw error;
      }
      return next(specifier.replace(/\.js$/, ".ts"), context);
    }
  },
});
