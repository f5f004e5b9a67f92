import type { Service } from "../../src/cli/services.ts";
import { type Config, loadConfig } from "../../src/common/config/load.ts";

/** A configuration with nothing but a state directory. */
export function localConfig(stateDir: string): Config {
  return loadConfig({ command: "serve", environment: {}, uid: 0, flags: { state_dir: stateDir } }).config;
}

/** One of the services of `recording-service.ts`. */
export function recordingService(name: string, start: string): Service {
  const { href: module } = new URL("./recording-service.js", import.meta.url);
  return { name, module, start, streamsExecs: name === "frontend", switches: [] };
}
