/** The checkout, and the Go programs that `npm run build` puts into it. */
import { join } from "node:path";

/** The checkout's directory, whether this runs compiled, as dist/src/common/built-programs.js, or from source. */
export const checkout = import.meta.dirname.replace(/(?:\/dist)?\/src\/common$/, "");

/** Paths of the executables, which are built for this machine. */
export const builtPrograms = {
  agent: builtProgram("sockerless-agent"),
  /** The program of the image `sockerless/hello`. */
  hello: builtProgram("hello"),
} as const;

function builtProgram(name: string): string {
  return join(checkout, "build", name);
}
