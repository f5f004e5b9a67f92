/**
 * The daemon of `sockerless serve --detach`. The process that began it tells the configuration and waits until it serves;
 * until then its end is the daemon's too.
 */
import "../common/compile-cache.ts";

import { once } from "node:events";

import { reportFailure } from "./lifetime.ts";
import type { ConfigMessage, ServesMessage } from "./messages.ts";
import { serve } from "./serve.ts";

const leave = (): never => process.exit(1);
process.once("disconnect", leave);
if (!process.connected) {
  leave(); // It was gone before this process could hear of it.
}
const [{ config }] = (await once(process, "message")) as [ConfigMessage];
try {
  const serving = serve(config, tellServing); // From here on it is the one that ends when the other is gone.
  process.off("disconnect", leave);
  await serving;
} catch (error) {
  reportFailure("serve", error);
  leave();
}
if (process.connected) {
  process.disconnect?.(); // It was ended before it served, and the channel would keep it.
}

function tellServing(line?: string): void {
  process.removeAllListeners("disconnect"); // Nobody's end is this process's any more.
  const message: ServesMessage = line === undefined ? {} : { line };
  // The other hangs up. Without a callback one that just died would be an uncaught error.
  process.send?.(message, undefined, undefined, () => {});
}
