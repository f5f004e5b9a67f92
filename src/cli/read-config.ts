/** A process that reads the configuration of `sockerless serve` and sends it to its parent. */
import "../common/compile-cache.ts";

import type { Command } from "commander";

import { configOf, newProgram, serveCommand } from "./commands.ts";
import { reportFailure } from "./report-failure.ts";
import type { ConfigMessage } from "./messages.ts";

const program = newProgram();
serveCommand(program).action((_, command: Command) => {
  const isDetached = command.opts<{ readonly detach?: true }>().detach === true;
  const message: ConfigMessage = { config: configOf(command, "serve"), isDetached };
  // Without a callback, a parent that has just died would cause an uncaught error.
  process.send?.(message, undefined, undefined, () => process.disconnect?.());
});

try {
  await program.parseAsync();
} catch (error) {
  reportFailure("serve", error);
  process.exit(1);
}
