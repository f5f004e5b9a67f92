/**
 * The daemon of `sockerless serve --detach`. Its parent sends the configuration and waits until it serves; until then
 * the daemon ends with its parent.
 */
import "../common/compile-cache.ts";

import { once } from "node:events";

import { reportFailure } from "./report-failure.ts";
import type { ConfigMessage, ServesMessage } from "./messages.ts";
import { serve } from "./serve.ts";

const leave = (): never => process.exit(1);
process.once("disconnect", leave);
if (!process.connected) {
  leave(); // The parent ended before the listener was set.
}
const [{ config }] = (await once(process, "message")) as [ConfigMessage];
try {
  const serving = serve(config, reportServing); // From here on it handles "disconnect" itself.
  process.off("disconnect", leave);
  await serving;
} catch (error) {
  reportFailure("serve", error);
  leave();
}
if (process.connected) {
  process.disconnect?.(); // Ended before it served: the open channel would keep this process alive.
}

function reportServing(line?: string): void {
  process.removeAllListeners("disconnect"); // From now on this process outlives its parent.
  const message: ServesMessage = line === undefined ? {} : { line };
  // The parent disconnects. Without a callback, one that has just died would cause an uncaught error.
  process.send?.(message, undefined, undefined, () => {});
}
