/** The first half of `npm start` (see start.sh): gets the arguments of `sockerless serve`. */
import { existsSync, readFileSync } from "node:fs";

import { main, prepare } from "./prepare/prepare.mjs";

await main(() => prepare(needsOciRuntime(process.argv.slice(2)) ? { packages: "containers" } : {}));

/** True if containers will run on this machine; a backend in the cloud needs nothing of it. */
function needsOciRuntime(args) {
  const flagValue = (flag) => {
    const index = args.findLastIndex((arg) => arg === flag || arg.startsWith(`${flag}=`));
    return index < 0 || args[index] !== flag ? args[index]?.slice(flag.length + 1) : args[index + 1];
  };
  const asksForHelp = args.includes("--help") || args.includes("-h");
  const file = flagValue("--config") ?? process.env.SOCKERLESS_CONFIG;
  const inFile = file !== undefined && existsSync(file) ? readFileSync(file, "utf8") : "";
  const backend =
    flagValue("--backend") ??
    (process.env.SOCKERLESS_BACKEND || /^backend:\s*["']?(\w+)/m.exec(inFile)?.[1] || "local");
  return backend === "local" && !asksForHelp;
}
