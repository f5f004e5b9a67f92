/** The command line of sockerless. */
import "../common/compile-cache.ts";

import { reportFailure } from "./report-failure.ts";
import { sockerlessProgram } from "./program.ts";

const program = sockerlessProgram();
try {
  await program.parseAsync();
} catch (error) {
  reportFailure(program.args[0] ?? "", error);
  process.exit(1);
}
