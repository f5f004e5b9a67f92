/** The checkout, and the Go programs that `npm run build` puts into it. */
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";

/** The checkout's directory, whether this runs bundled, compiled or from source. */
export const checkout = findCheckout();

/** Paths of the executables, which are built for this machine. */
export const builtPrograms = {
  agent: builtProgram("sockerless-agent"),
  /** The program of the image `sockerless/hello`. */
  hello: builtProgram("hello"),
} as const;

function builtProgram(name: string): string {
  return join(checkout, "build", name);
}

function findCheckout(): string {
  const file = findPackageJSON("..", import.meta.url);
  if (file === undefined) {
    throw new Error("package.json of sockerless is missing");
  }
  return dirname(file);
}
