/** The Go programs that `npm run build` puts into the checkout; this file runs as dist/src/common/built-programs.js. */
import { fileURLToPath } from "node:url";

/** Executables by what they are, for the machine that they were built on. */
export const builtPrograms = {
  agent: builtProgram("sockerless-agent"),
  /** The program of the image `sockerless/hello`. */
  hello: builtProgram("hello"),
} as const;

function builtProgram(name: string): string {
  return fileURLToPath(new URL(`../../../build/${name}`, import.meta.url));
}
