/** `node scripts/prepare/build-programs.mjs DIRECTORY GOARCH [--builder]`: the Go programs of a package. */
import { join } from "node:path";

import { buildPrograms } from "./build-agent.mjs";
import { compileBuilder } from "./compile-builder.mjs";
import { main } from "./prepare.mjs";

const [directory, architecture, builder] = process.argv.slice(2);
await main(async () => {
  await buildPrograms(directory, undefined, architecture);
  if (builder === "--builder") {
    await compileBuilder(join(directory, "sockerless-builder"), architecture);
  }
});
